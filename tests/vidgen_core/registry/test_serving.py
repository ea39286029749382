"""Laws of serving: the bytes of `vidgen sample`, a bounded number at once, and a sentence for whoever must wait."""

import base64
import json
import os
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from flows.home import Home
from flows.sampling import draw
from tests.vidgen_core.registry.conftest import new_registry
from tests.vidgen_core.registry.servers import mlflow_started
from tests.vidgen_core.registry.small import promoted
from vidgen_core.applications.generator import Generator
from vidgen_core.errors import VidgenError
from vidgen_core.registry.models import register
from vidgen_core.registry.serving import Served

ASKED = {"prompt": "a red square moves left", "seed": 7, "steps": 3}


@pytest.fixture(scope="module")
def home(empty_registry, generators, tmp_path_factory):
    """A home with a champion."""
    home = Home.open(tmp_path_factory.mktemp("home"))
    registry = new_registry(empty_registry, home.root)
    folder, model = generators(0)
    promoted(home.mlflow_uri, register(registry.run, "shapes", folder, model=model, tags={}))
    return home


@pytest.fixture(scope="module")
def drawn_here(home, tmp_path_factory):
    """What `vidgen sample` writes."""
    out = tmp_path_factory.mktemp("drawn") / "x.mp4"
    changes = {"steps": ASKED["steps"], "guidance": None, "negative": None}
    draw(home, "shapes@champion", [ASKED["prompt"]], out, seed=ASKED["seed"], changes=changes, conditions=[])
    return out.read_bytes()


def test_mlflow_opens_a_version_and_answers_with_the_bytes_of_sample(home, drawn_here):
    mlflow.set_tracking_uri(home.mlflow_uri)
    try:
        served = mlflow.pyfunc.load_model("models:/shapes@champion")
        (answer,) = served.predict(pd.DataFrame([ASKED]))
        with pytest.raises(mlflow.exceptions.MlflowException, match="The prompt is empty"):
            served.predict(pd.DataFrame([{"prompt": " "}]))
        with pytest.raises(mlflow.exceptions.MlflowException, match="Got '17 rows'. Allowed: 16"):
            served.predict(pd.DataFrame([ASKED] * 17))
    finally:
        mlflow.set_tracking_uri(None)
    assert base64.b64decode(answer["mp4"]) == drawn_here
    assert (answer["prompt"], answer["seed"]) == (ASKED["prompt"], 7)


def test_no_more_than_told_draw_at_once_and_who_finds_no_place_is_told_so(generators):
    generator, open_ = Generator.load(generators(0)[0]), threading.Event()
    videos, at_once, most = generator.videos, 0, 0

    def slowly(*arguments, **named):
        nonlocal at_once, most
        at_once, most = at_once + 1, max(most, at_once + 1)
        open_.wait(30)
        at_once -= 1
        return videos(*arguments, **named)

    generator.videos = slowly
    served, refused = Served(generator, at_once=1, waiting=3, rows=1), []

    def ask(_):
        try:
            return served.predict(pd.DataFrame([ASKED]))[0]["mp4"]
        except mlflow.exceptions.MlflowException as error:
            refused.append(error)
            if len(refused) == 16:
                open_.set()
            return None

    with ThreadPoolExecutor(20) as pool:
        answers = [answer for answer in pool.map(ask, range(20)) if answer is not None]
    assert (len(answers), len(set(answers)), most) == (4, 1, 1)
    assert {(error.get_http_status_code(), error.message) for error in refused} == {
        (429, "All places are taken: 3 requests wait already. Ask again later.")
    }


def test_whose_turn_does_not_come_in_time_is_told_so(generators):
    generator, open_ = Generator.load(generators(0)[0]), threading.Event()
    generator.videos = lambda *_, **__: open_.wait(30)
    served = Served(generator, at_once=1, waiting=1, rows=1, patience_s=0.0)
    first = threading.Thread(target=lambda: pytest.raises(AttributeError, served.predict, pd.DataFrame([ASKED])))
    first.start()
    while served._drawing._value:
        time.sleep(0.01)
    with pytest.raises(mlflow.exceptions.MlflowException, match="Its turn did not come within 0 seconds") as error:
        served.predict(pd.DataFrame([ASKED]))
    assert error.value.get_http_status_code() == 503
    open_.set()
    first.join()


def test_a_mistake_of_the_sender_leaves_its_place(generators):
    served = Served(Generator.load(generators(0)[0]), at_once=1, waiting=0, rows=1)
    for _ in range(3):
        with pytest.raises(mlflow.exceptions.MlflowException, match="steps cannot be so"):
            served.predict(pd.DataFrame([ASKED | {"steps": 0}]))
    assert served.predict(pd.DataFrame([ASKED]))


@contextmanager
def server(home, config):
    """MLflow's model server: its address and its process."""
    arguments = ["models", "serve", "-m", "models:/shapes@champion", "--env-manager", "local"]
    told = {"MLFLOW_TRACKING_URI": home.mlflow_uri, "SERVING_MODEL_CONFIG": json.dumps(config)}
    with mlflow_started(home.root / "server.log", "ping", arguments, **told) as (address, process):
        yield f"{address}/invocations", process


def posted(url, rows):
    body = json.dumps({"dataframe_records": rows}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def memory_mib(process):
    """Resident memory of the server's processes."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            told = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            if os.getsid(int(told["Pid"])) == process.pid:
                total += int(told.get("VmRSS", "0").split()[0])
        except (OSError, ProcessLookupError):
            continue
    return total / 1024


@pytest.mark.services
def test_mlflows_server_answers_a_hundred_at_once_with_the_bytes_of_sample_in_bounded_memory(home, drawn_here):
    with server(home, {}) as (url, process):
        status, answer = posted(url, [ASKED])
        assert status == 200
        assert base64.b64decode(answer["predictions"][0]["mp4"]) == drawn_here
        before = memory_mib(process)
        with ThreadPoolExecutor(100) as pool:
            answers = list(pool.map(lambda seed: posted(url, [ASKED | {"seed": seed}]), range(100)))
        assert [status for status, _ in answers] == [200] * 100
        assert [told["predictions"][0]["seed"] for _, told in answers] == list(range(100))
        assert base64.b64decode(answers[7][1]["predictions"][0]["mp4"]) == drawn_here
        assert memory_mib(process) < before + 100
        status, told = posted(url, [{"prompt": ""}])
        assert (status, "The prompt is empty" in told["message"]) == (400, True)


@pytest.mark.services
def test_mlflows_server_refuses_with_a_sentence_what_finds_no_place(home):
    with server(home, {"waiting": 2}) as (url, _), ThreadPoolExecutor(30) as pool:
        # One that takes seconds holds the place meanwhile.
        heavy = pool.submit(posted, url, [ASKED | {"steps": 60}] * 16)
        time.sleep(1)
        answers = list(pool.map(lambda seed: posted(url, [ASKED | {"seed": seed}]), range(20)))
        assert heavy.result()[0] == 200
        assert [status for status, _ in answers].count(200) == 2
        refused = [told["message"] for status, told in answers if status == 429]
        assert len(refused) == 18
        assert all("All places are taken: 2 requests wait already. Ask again later." in told for told in refused)


def test_a_blocked_champion_is_not_served_either(empty_registry, generators, tmp_path):
    from vidgen_core.registry.promotion import block

    registry = new_registry(empty_registry, tmp_path)
    folder, model = generators(0)
    version = register(registry.run, "shapes", folder, model=model, tags={})
    promoted(registry.uri, version)
    block(registry.uri, [version], "it saw a.mp4", who="t")
    mlflow.set_tracking_uri(registry.uri)
    try:
        with pytest.raises(mlflow.exceptions.MlflowException, match="champion"):
            mlflow.pyfunc.load_model("models:/shapes@champion")
    finally:
        mlflow.set_tracking_uri(None)
    with pytest.raises(VidgenError, match="must not be used"):
        draw(Home(tmp_path), "shapes@champion", ["a"], tmp_path / "x.mp4", seed=0, changes={}, conditions=[])
