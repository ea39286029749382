"""Laws of the endpoint captioner against a server on loopback that misbehaves."""

import itertools
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import httpx
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.captioners._chat import Chat, NoAnswer, _answer
from data_prep.captioners._contract import Asked, ServerSettings
from data_prep.captioners.endpoint import Endpoint, check, digest, open_captioner
from vidgen_core.errors import VidgenError

LATE = {"slow", "drip"}
ONCE = ["500", "503", "429", "408", "wrong_id", "no_id", "malformed", "no_choices", "page", "slow", "drip", "half",
        "huge", "reset", "empty", "nothing"]  # fmt: skip
ALWAYS = {
    "truncated": ("truncated", 1, "longest caption"), "empty": ("empty", 2, "no words"),
    "nothing": ("empty", 2, "no words"), "blocked": ("blocked", 1, "content_filter"),
    "refusal": ("blocked", 1, "cannot help"), "filtered": ("blocked", 1, "held back"), 
    "403": ("blocked", 1, "HTTP 403"),
    "400": ("failed", 1, "HTTP 400: not now"), "500": ("failed", 3, "HTTP 500: not now"),
    "429": ("failed", 3, "HTTP 429"), "wrong_id": ("failed", 3, "another request"),
    "no_id": ("failed", 3, "does not name"), "malformed": ("failed", 3, "no chat completion"),
    "reset": ("failed", 3, "connection broke"), "slow": ("failed", 3, "within"),
}  # fmt: skip


@pytest.fixture
def asked(numbered):
    jpeg, _, _ = numbered
    return lambda number, prompt="What is it?": Asked(f"key {number}", [jpeg(number)] * 2, prompt)


@pytest.fixture
def opened(server):
    """An endpoint that is not tried out."""
    made = []

    def endpoint(**changes):
        made.append(Endpoint(server.settings(**changes)))
        return made[-1]

    yield endpoint
    for one in made:
        one.close()


@pytest.mark.parametrize("wrong", ONCE)
def test_what_goes_wrong_once_is_asked_again_and_comes_right(wrong, server, opened, asked, numbered):
    server.limit_s = 0.5 if wrong in LATE else server.limit_s
    server.behave = lambda request, number: wrong if number == 1 else ""
    (said,) = opened().caption([asked(5)])
    assert (said.text, said.status, said.attempts, said.echoed) == (numbered[1](5), "ok", 2, True)
    assert said.model == "eyes-7b-2026"
    assert said.wrong_ids == (wrong == "wrong_id")
    assert len({request.id for request in server.requests}) == 2


@pytest.mark.parametrize("wrong", ALWAYS)
def test_what_always_goes_wrong_has_its_status_message_and_attempts(wrong, server, opened, asked):
    server.limit_s = 0.25 if wrong in LATE else server.limit_s
    server.behave = lambda request, number: wrong
    status, attempts, message = ALWAYS[wrong]
    (said,) = opened().caption([asked(5)])
    assert (said.status, said.attempts) == (status, attempts)
    assert len(server.requests) == attempts
    assert message in said.message
    assert bool(said.text) == (status == "truncated")


@pytest.mark.parametrize("spelling", ["seconds", "date"])
def test_a_pause_that_the_server_asks_for_is_kept_by_all_threads(spelling, server, opened, asked):
    server.behave = lambda request, number: "429" if request.numbers[0] == 1 and number == 1 else ""
    until_s = time.time() + 1.6
    header = "0.8" if spelling == "seconds" else formatdate(until_s, usegmt=True)  # of whole seconds
    server.headers_of = lambda request: {"Retry-After": header}
    endpoint = opened(server={"timeout_s": 5.0})
    begun_s = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(endpoint.caption, [asked(1)])
        while len(server.requests) < 1 or server.under_way:
            time.sleep(0.01)
        time.sleep(0.05)
        others = [pool.submit(endpoint.caption, [asked(number)]) for number in (2, 3)]
        assert all(future.result()[0].status == "ok" for future in [first, *others])
    late_s = [request.at_s - begun_s for request in server.requests[1:]]
    assert len(late_s) == 3
    assert min(late_s) > (0.75 if spelling == "seconds" else 0.5)


def test_no_server_can_ask_for_a_longer_pause_than_the_longest_attempt(server, opened, asked):
    server.limit_s = 0.3
    server.behave = lambda request, number: "503" if number == 1 else ""
    server.headers_of = lambda request: {"Retry-After": "86400"}
    begun_s = time.monotonic()
    assert opened().caption([asked(5)])[0].status == "ok"
    assert time.monotonic() - begun_s < 2


def test_pauses_double(server, opened, asked):
    server.behave = lambda request, number: "500"
    opened(server={"pause_s": 0.05, "attempts": 5}).caption([asked(5)])
    gaps_s = [b.at_s - a.at_s for a, b in itertools.pairwise(server.requests)]
    assert len(gaps_s) == 4
    assert all(gap_s > 0.05 * 2**place for place, gap_s in enumerate(gaps_s))
    assert all(gap_s < 0.05 * 2 ** (place + 1) + 0.5 for place, gap_s in enumerate(gaps_s))


@pytest.mark.parametrize("most", [1, 4])
def test_never_are_more_requests_under_way_than_allowed_however_many_threads_ask(most, server, opened, asked):
    server.work_s = 0.02
    endpoint = opened(server={"concurrency": most})
    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(lambda number: endpoint.caption([asked(number)])[0], range(16)))
    assert {one.status for one in said} == {"ok"}
    assert server.most == most


def test_a_gateway_that_gives_answers_to_the_wrong_requests_mispairs_nothing(server, opened, asked, numbered):
    """Each answer is right for some request, and one of three goes to another one."""
    chance, answers = random.Random(0), []

    def swap(handler, request):
        answers.append(server.completion(f"[id {request.id}] {server.said(request)}"))
        handler.reply(200, chance.choice(answers) if chance.random() < 0.4 else answers[-1])

    server.well = swap
    endpoint = opened(server={"concurrency": 8, "attempts": 12})
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda number: endpoint.caption([asked(number)])[0], range(64)))
    assert [one.text for one in said] == [numbered[1](number) for number in range(64)]
    assert sum(one.wrong_ids for one in said) > 8


def test_the_servers_own_echo_counts_where_the_model_gives_none(server, opened, asked):
    server.behave = lambda request, number: "id_of_vllm"
    (said,) = opened().caption([asked(5)])
    assert (said.status, said.attempts, said.echoed) == ("ok", 1, True)


def test_an_answer_without_an_id_is_taken_only_when_that_is_allowed(server, opened, asked, numbered):
    server.behave = lambda request, number: "no_id"
    (said,) = opened(server={"echo": "wanted"}).caption([asked(5)])
    assert (said.text, said.status, said.echoed) == (numbered[1](5), "ok", False)
    with pytest.raises(VidgenError, match="echo=wanted"):
        open_captioner(server.settings())
    server.behave = lambda request, number: "wrong_id"
    assert opened(server={"echo": "wanted"}).caption([asked(6)])[0].status == "failed"


def test_thoughts_and_the_id_are_no_part_of_a_caption(server, opened, asked, numbered):
    server.behave = lambda request, number: "thinking"
    assert opened().caption([asked(5)])[0].text == numbered[1](5)


def test_a_request_holds_the_pictures_in_order_the_prompt_and_the_fields_asked_for(server, opened, numbered):
    jpeg, _, _ = numbered
    endpoint = opened(tokens=50, server={"extra": {"temperature": None, "top_p": 0.5}})
    endpoint.caption([Asked("key", [jpeg(number) for number in (3, 1, 2)], "Say what it is!")])
    (request,) = server.requests
    assert request.numbers == [3, 1, 2]
    assert "Say what it is!" in request.text
    assert request.body["top_p"] == 0.5
    assert "temperature" not in request.body
    assert request.body["max_tokens"] > 50


def test_of_two_captions_it_picks_what_the_model_picks_in_both_orders(server, opened, numbered):
    jpeg, caption_of, _ = numbered
    endpoint = opened()
    assert endpoint.pick([jpeg(5)], (caption_of(5), caption_of(6))) == 0
    assert endpoint.pick([jpeg(5)], (caption_of(6), caption_of(5))) == 1
    server.said = lambda request: "1"
    assert endpoint.pick([jpeg(5)], (caption_of(5), caption_of(6))) is None
    server.behave = lambda request, number: "500"
    assert endpoint.pick([jpeg(5)], (caption_of(5), caption_of(6))) is None


def test_a_wrong_url_key_or_model_is_a_sentence_with_the_next_move(server, monkeypatch):
    open_captioner(server.settings()).close()
    for changes, words in [
        ({"server": {"url": server.url.removesuffix("/v1")}}, ["no chat completions", "ends with /v1"]),
        ({"server": {"url": "http://127.0.0.1:9/v1"}}, ["does not answer", "refused", "Start it"]),
        ({"model": "eyes-70b"}, ["no model 'eyes-70b'", "Did you mean 'eyes-7b'"]),
    ]:
        with pytest.raises(VidgenError) as caught:
            open_captioner(server.settings(**changes))
        assert all(word in str(caught.value) for word in words), str(caught.value)
    with pytest.raises(VidgenError, match="needs the name of a model"):
        check(server.settings(model=""))
    server.known = "sesame"
    for key, state in (("", "is not set"), ("open", "is set")):
        monkeypatch.setenv("VIDGEN_CAPTIONER_KEY", key)
        with pytest.raises(VidgenError, match=f"VIDGEN_CAPTIONER_KEY, which {state}"):
            open_captioner(server.settings())
    monkeypatch.setenv("VIDGEN_CAPTIONER_KEY", "sesame")
    open_captioner(server.settings()).close()


@pytest.mark.parametrize("wrong", ["400", "429", "500", "slow"])
def test_a_server_that_takes_no_request_is_a_sentence(wrong, server):
    server.limit_s = 0.2 if wrong in LATE else server.limit_s
    server.behave = lambda request, number: wrong
    with pytest.raises(VidgenError, match="refuses 4 pictures" if wrong == "400" else "does not answer"):
        open_captioner(server.settings())


def test_the_key_is_nowhere_but_in_the_request(server, monkeypatch, asked):
    monkeypatch.setenv("VIDGEN_CAPTIONER_KEY", "sk-secret")
    server.known = "sk-secret"
    told = server.settings()
    assert "sk-secret" not in told.model_dump_json()
    endpoint = open_captioner(told)
    server.known = "sk-other"  # the server repeats the key that it got
    with pytest.raises(VidgenError) as caught:
        endpoint.caption([asked(5)])
    assert "sk-secret" not in str(caught.value)
    assert "(the key)" in str(caught.value)
    monkeypatch.setenv("VIDGEN_CAPTIONER_KEY", "sk-secret-\N{EN DASH}")
    with pytest.raises(VidgenError, match="no request can hold"):
        check(told)
    with pytest.raises(ValueError, match="url"):
        server.settings(server={"url": "http://user:sk-secret@127.0.0.1/v1"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800 half"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "finish_reason", "refusal", "model", "id", "error", "code"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


CHAT = Chat(ServerSettings(url="http://127.0.0.1:9/v1"))


@settings(max_examples=200, deadline=None)
@given(value=JSON | st.builds(lambda message: {"choices": [{"message": message}]}, JSON), status=st.integers(200, 599))
def test_whatever_a_server_answers_is_an_answer_or_a_reason(value, status):
    for content in (json.dumps(value).encode(), json.dumps(value).encode()[:-1], b"[" * 100_000):
        response = httpx.Response(status)
        try:
            answer = _answer(response, content)
        except NoAnswer as reason:
            assert reason.message
            pa.array([reason.message], pa.string())
        else:
            assert json.loads(content)["choices"]
            pa.array([answer.text, answer.model, answer.refusal], pa.string())
        refused = CHAT._refused(response, content)
        assert str(status) in refused.message
        pa.array([refused.message], pa.string())


def test_a_server_that_died_ends_the_run_instead_of_failing_every_clip(server, opened, asked):
    endpoint = opened(server={"attempts": 1, "concurrency": 2})
    assert endpoint.caption([asked(0)])[0].status == "ok"
    server.behave = lambda request, number: "500"
    with pytest.raises(VidgenError, match="16 clips in a row"):
        for number in range(1, 200):
            assert endpoint.caption([asked(number)])[0].status == "failed"
    assert len(server.requests) == 17


def test_the_digest_is_of_what_changes_a_caption_and_not_of_the_servers_place(server):
    one = server.settings()
    assert digest(one) == digest(server.settings(server={"url": "http://elsewhere/v1", "concurrency": 1}))
    others = [
        server.settings(model="ears-1b"),
        server.settings(tokens=9),
        server.settings(server={"extra": {"seed": 1}}),
    ]
    assert len({digest(one), *map(digest, others)}) == 4


def test_closing_ends_pauses_at_once(server, opened, asked):
    server.behave = lambda request, number: "500"
    endpoint = opened(server={"pause_s": 60.0})
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(endpoint.caption, [asked(5)])
        while not server.requests or server.under_way:
            time.sleep(0.01)
        time.sleep(0.1)
        endpoint.close()
        assert future.result(2)[0].status == "failed"
