"""Laws of captioning: every clip its own caption, nothing asked twice, nothing lost, an alarm when something is odd."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from data_prep.asking import in_threads
from data_prep.caption_alarms import better_than_chance
from data_prep.captioning import try_out
from data_prep.prepare import prepare
from data_prep.run import UNFETCHED, Failure, PoolRunner
from data_prep.samples import make
from data_prep.settings import DataSettings
from data_prep.tables import Tables
from vidgen_core.errors import VidgenError

ROOT = Path(__file__).parents[3]


class Away:
    """Runs tasks in this process; from the pass `of` on no source comes any more."""

    def __init__(self, of):
        self.passes, self.of = 0, of

    def map(self, function, items, *, deadline_s=0.0):
        self.passes += bool(items)
        for item in items:
            yield item, Failure(UNFETCHED, "HTTP 503", 4) if self.passes >= self.of else function(item)


def generated(clips):
    return clips.tables.read("generated_captions").to_pylist()


def test_each_clip_has_the_caption_of_its_own_pictures_and_says_where_it_is_from(clips, server, numbered):
    server.work_s = 0.002
    came = clips.captioned(server.settings(prompts=("Short?", "Long?")), PoolRunner(2))
    assert not came.notes
    for span in clips.spans:
        rows = came.of(span)
        assert [row["caption"] for row in rows] == [numbered[1](clips.shown[span["clip_id"]])] * 2
        assert len({row["prompt_digest"] for row in rows}) == 2
        assert {(row["origin"], row["model"], row["status"]) for row in rows} == {("endpoint", "eyes-7b-2026", "ok")}
    assert all(
        set(request.numbers) == {request.numbers[0]} and len(request.numbers) == 4 for request in server.requests
    )
    assert {row["echoed"] for row in generated(clips)} == {True}
    assert not (clips.tables.root / "stills").exists()


def test_what_was_captioned_is_not_asked_again_and_needs_no_server(clips, server, here):
    first = clips.captioned(server.settings())
    count = len(server.requests)
    server.close()
    runner = here()
    again = clips.captioned(server.settings(), runner)
    assert again.rows == first.rows
    try_out(clips.spans, False, clips.tables, server.settings())
    assert (len(server.requests), runner.ran) == (count, [])
    with pytest.raises(VidgenError, match="does not answer"):
        try_out(clips.spans, True, clips.tables, server.settings(server={"attempts": 1}))


def test_only_new_spans_are_asked_for_and_other_thresholds_pay_nothing(clips, server):
    clips.captioned(server.settings(), spans=clips.spans[:20])
    clips.captioned(server.settings(), spans=clips.spans[4:9])
    assert sum(server.captioned().values()) == 20
    clips.captioned(server.settings())
    assert set(server.captioned().values()) == {1}
    assert sum(server.captioned().values()) == 36


def test_a_failed_caption_is_a_dead_letter_that_the_next_run_asks_again(clips, server, numbered):
    bad = {3: "500", 20: "malformed", 30: "no_id", 31: "blocked"}
    server.behave = lambda request, number: bad.get(request.numbers[0], "")
    came = clips.captioned(server.settings())
    status = {clips.shown[row["clip_id"]]: (row["status"], row["attempts"]) for row in generated(clips)}
    assert {number: status[number] for number in bad} == {
        3: ("failed", 3), 20: ("failed", 3), 30: ("failed", 3), 31: ("blocked", 1)
    }  # fmt: skip
    assert any("3 captions" in note and "next run" in note for note in came.notes)
    assert "HTTP 500" in came.why_silent(clips.spans[3])
    assert came.attempts(clips.spans[3]) == 3
    assert came.of(clips.spans[3])[0]["status"] == "empty"

    asked = server.captioned()
    del bad[3]
    came = clips.captioned(server.settings())
    assert server.captioned() - asked == {3: 1, 20: 3, 30: 3}
    assert came.of(clips.spans[3])[0]["caption"] == numbered[1](3)
    rows = {clips.shown[row["clip_id"]]: row["attempts"] for row in generated(clips)}
    assert (len(rows), rows[3], rows[20]) == (36, 4, 6)


def test_a_source_that_cannot_be_read_any_more_costs_its_own_clips(clips, server):
    clips.sources["source1"].file.write_bytes(b"not a video")
    came = clips.captioned(server.settings())
    lost = {span["clip_id"] for span in clips.spans if not came.of(span)[0]["caption"]}
    assert lost == {span["clip_id"] for span in clips.spans if span["source_id"] == "source1"}
    assert "No decoder" in came.why_silent(clips.spans[12])


def test_a_store_that_fails_for_a_while_costs_one_run_and_rings_no_alarm(clips, server):
    checked = server.settings(pair_checks=10)
    came = clips.captioned(checked, Away(of=1))
    assert {row["status"] for row in generated(clips)} == {"failed"}
    assert "next run" in came.notes[0]
    assert clips.captioned(checked, Away(of=2)).notes == ()
    assert {row["status"] for row in generated(clips)} == {"ok"}
    assert len(clips.tables.read("caption_checks")) == 0
    assert clips.captioned(checked).notes == ()
    assert [row["fits"] for row in clips.tables.read("caption_checks").to_pylist()] == [True] * 10


def test_another_prompt_or_model_is_asked_for_anew_and_the_others_captions_stay(clips, server):
    clips.captioned(server.settings())
    other = clips.captioned(server.settings(prompts=("Where?",)))
    assert len(generated(clips)) == 72
    assert all(len(rows) == 1 for rows in other.rows.values())
    both = clips.captioned(server.settings(also=(server.settings(prompts=("Where?",)),)))
    assert len(server.requests) == 72
    assert all(len(rows) == 2 for rows in both.rows.values())


def test_a_source_that_is_gone_takes_its_captions_along(clips, server):
    clips.captioned(server.settings())
    sources = clips.tables.read("sources")
    clips.tables.replace("sources", sources.slice(0, 2))
    clips.captioned(server.settings(), spans=clips.spans[:24])
    assert {row["source_id"] for row in generated(clips)} == {"source0", "source1"}


def test_one_caption_on_many_clips_is_an_alarm(clips, server):
    server.say = lambda request: "I'm sorry, I cannot see it." if request.numbers[0] % 3 else f"A {request.numbers[0]}"
    with pytest.raises(VidgenError, match="24 of 36 clips have the same caption") as caught:
        clips.captioned(server.settings())
    assert "alarm=note" in str(caught.value)
    count = len(server.requests)
    with pytest.raises(VidgenError, match="the same caption"):
        clips.captioned(server.settings())
    came = clips.captioned(server.settings(alarm="note"))
    assert "the same caption" in came.notes[0]
    assert not clips.captioned(server.settings(repeat_share=0.7)).notes
    assert len(server.requests) == count


def test_over_few_clips_only_a_majority_is_an_alarm(make_clips, server):
    few, fewer = make_clips("few", sources=1, spans=12), make_clips("fewer", sources=1, spans=7)
    server.say = lambda request: "It moves." if request.numbers[0] < 5 else f"A {request.numbers[0]}"
    assert not few.captioned(server.settings()).notes
    server.say = lambda request: "It moves."
    assert not fewer.captioned(server.settings()).notes
    with pytest.raises(VidgenError, match="12 of 12"):
        few.captioned(server.settings(prompts=("Other?",)))


def test_a_captioner_that_says_one_thing_of_everything_is_stopped_before_it_is_paid_for_all(make_clips, server):
    clips = make_clips("many", sources=5, spans=50, frames=1)
    server.say = lambda request: "A video."
    with pytest.raises(VidgenError, match="have the same caption"):
        clips.captioned(server.settings())
    assert len(server.requests) < 210


def test_captions_of_other_clips_are_an_alarm_that_does_not_fall_silent(clips, server):
    """The server swaps pictures inside: the answers name their requests, and speak of other clips."""
    server.say = lambda request: f"The number {(request.numbers[0] + 12) % 36} moves."
    with pytest.raises(VidgenError, match="fit their clips no better"):
        clips.captioned(server.settings(pair_checks=32))
    count = len(server.requests)
    with pytest.raises(VidgenError, match="fit their clips no better"):
        clips.captioned(server.settings(pair_checks=32))
    assert "fit their clips no better" in clips.captioned(server.settings(pair_checks=32, alarm="note")).notes[0]
    assert len(server.requests) == count


def test_better_than_chance_is_the_tail_of_a_coins_throws():
    throws = np.random.default_rng(0).integers(0, 2, (200_000, 20)).sum(1)
    for right in range(21):
        share = (throws >= right).mean()
        if abs(share - 0.05) > 0.005:
            assert better_than_chance(right, 20) == (share < 0.05)
    assert not better_than_chance(0, 0)
    assert not better_than_chance(4, 4)


def test_right_pairs_are_no_alarm_and_are_checked_once(clips, server, here):
    assert not clips.captioned(server.settings(pair_checks=10)).notes
    picks = [request for request in server.requests if request.picks]
    assert len(picks) == 20
    checks = clips.tables.read("caption_checks").to_pylist()
    assert [row["fits"] for row in checks] == [True] * 10
    assert all(row["caption"] != row["rival"] for row in checks)
    runner = here()
    clips.captioned(server.settings(pair_checks=10), runner)
    assert runner.ran == []


def test_never_more_requests_or_clips_in_memory_than_allowed(clips, server):
    server.work_s = 0.01
    clips.captioned(server.settings(server={"concurrency": 3}))
    assert server.most == 3
    taken, ahead, lock, free = 0, [], threading.Lock(), threading.Event()

    def items():
        nonlocal taken
        for item in range(100):
            taken += 1
            yield item

    def slow(item):
        free.wait(0.002)
        return item

    came = []
    for item in in_threads(slow, items(), 4):
        with lock:
            ahead.append(taken - len(came))
            came.append(item)
    assert sorted(came) == list(range(100))
    assert max(ahead) <= 8


def test_an_error_in_a_thread_is_raised_and_begins_nothing_more():
    begun = []

    def fails(item):
        begun.append(item)
        time.sleep(0.002)
        if item == 5:
            raise VidgenError("five")

    with pytest.raises(VidgenError, match="five"):
        list(in_threads(fails, range(1000), 2))
    time.sleep(0.05)
    assert len(begun) < 20


SCRIPT = """
import json, sys
from pathlib import Path
from data_prep import captioning, ledger
from data_prep.settings import CaptionerSettings
from data_prep.sources import Source
from data_prep.tables import Tables
from data_prep.units import Workshop

class Here:
    def map(self, function, items, *, deadline_s):
        return ((item, function(item)) for item in items)

def main():
    ledger._GROUP_ROWS = 6
    given = json.loads(Path(sys.argv[1]).read_text())
    sources = {one: Source(one, Path(file).name, Path(file)) for one, file in given["sources"].items()}
    shop = Workshop(Tables(Path(given["tables"])), Here(), lambda *_: None, 60.0)
    captioning.caption_spans(given["spans"], sources, shop, CaptionerSettings.model_validate(given["settings"]))

if __name__ == "__main__":
    main()
"""


def test_killed_again_and_again_it_asks_for_nothing_that_was_committed(clips, server, numbered, tmp_path):
    server.work_s = 0.06
    settings = server.settings(server={"concurrency": 2})
    script, given = tmp_path / "caption.py", tmp_path / "given.json"
    script.write_text(SCRIPT)
    given.write_text(json.dumps({
        "spans": clips.spans, "settings": settings.model_dump(mode="json"), "tables": str(clips.tables.root),
        "sources": {one: str(source.file) for one, source in clips.sources.items()},
    }))  # fmt: skip
    for stop_at in (6, 18, None):
        before, done = server.captioned(), {row["clip_id"] for row in generated(clips)}
        process = subprocess.Popen(
            [sys.executable, str(script), str(given)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        while process.poll() is None and (stop_at is None or len(generated(clips)) < stop_at):
            time.sleep(0.005)
        if stop_at is not None:
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait(60)
        assert code == (0 if stop_at is None else -signal.SIGKILL)
        time.sleep(0.1)
        asked = server.captioned() - before
        assert not asked.keys() & {clips.shown[clip] for clip in done}
    rows = generated(clips)
    assert {row["clip_id"]: row["caption"] for row in rows} == {
        clip: numbered[1](number) for clip, number in clips.shown.items()
    }
    assert len(rows) == 36
    # What was lost by each of the two kills: a group that was not committed, and what was under way.
    assert 36 < sum(server.captioned().values()) <= 36 + 2 * (6 + 2 * 2)


def test_prepare_puts_provenance_into_captions_and_says_why_a_clip_is_silent(server, tmp_path, here):
    videos, tables = tmp_path / "videos", Tables(tmp_path / "tables")
    make(videos, count=2, seed=3)
    silent = min(videos.glob("*.vtt")).stem
    (videos / f"{silent}.vtt").unlink()
    lost = []

    def behave(request, number):
        if not (lost or request.try_out):
            lost.append(request.pictures)
        return "500" if [request.pictures] == lost else ""

    server.behave, server.say = behave, lambda request: f"A clip like {hash(request.pictures[0])}."
    settings = DataSettings(captioner=server.settings())
    prepared = prepare(videos, tables, settings, here())
    uris = {row["source_id"]: row["uri"] for row in tables.read("sources").to_pylist()}
    rows = tables.read("captions").to_pylist()
    for row in rows:
        generated_one = uris[row["source_id"]].startswith(silent)
        assert (row["origin"], row["model"]) == (("endpoint", "eyes-7b-2026") if generated_one else ("vtt", ""))
        assert (row["rank"], row["status"]) == (0, "ok")
    (reject,) = [row for row in tables.read("rejects").to_pylist() if row["reason"] == "caption_failed"]
    assert (reject["stage"], reject["attempts"]) == ("caption", 3)
    assert "HTTP 500" in reject["message"]
    assert "next run" in prepared.notes[0]

    settings = DataSettings(captioner=server.settings(always=True))
    server.behave = lambda request, number: ""
    prepare(videos, tables, settings, here())
    ranks = {}
    for row in tables.read("captions").to_pylist():
        ranks.setdefault(uris[row["source_id"]].startswith(silent), set()).add((row["rank"], row["origin"]))
    assert ranks == {True: {(0, "endpoint")}, False: {(0, "endpoint"), (1, "vtt")}}


def test_a_wrong_url_ends_prepare_before_anything_is_decoded(tmp_path, server, here):
    videos, runner = tmp_path / "videos", here()
    make(videos, count=1, seed=3)
    settings = DataSettings(captioner=server.settings(server={"url": "http://127.0.0.1:9/v1"}))
    with pytest.raises(VidgenError, match="does not answer"):
        prepare(videos, Tables(tmp_path / "tables"), settings, runner)
    assert runner.ran == []
