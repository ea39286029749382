"""`vidgen serve` with a real server: a cron that fires, only what is new is processed, and what goes wrong is told."""

import base64
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from data_prep.samples import make
from flows.embedded import password_file
from flows.home import Home
from flows.ports import check_port, free_port
from flows.recipes.recipe import load
from flows.serving import Served as Serving
from flows.serving import check_notify, serve
from tests.processes import launchers, named
from vidgen_core.errors import VidgenError

ROOT = Path(__file__).parents[2]
# How long a machine with other work may take for a run; no figure of ours.
LIMIT_S = 1200
_ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
_ONE_PROCESS = [
    f"{training}.{setting}"
    for training in ("training", "codec_training")
    for setting in ("launcher=process", "workers=1")
]


def test_a_schedule_is_checked_before_anything_begins():
    with pytest.raises(VidgenError, match=r"schedule.cron: .*0 2 \* \* \*"):
        load("shapes.tiny", ["schedule.cron=every night"])
    with pytest.raises(VidgenError, match="Did you mean 'Europe/Berlin'"):
        load("shapes.tiny", ["schedule.timezone=Europe/Berln"])
    with pytest.raises(VidgenError, match="web address"):
        check_notify("me@example.org")


def test_the_hour_of_a_run_does_not_make_it_another_run(tmp_path):
    from flows.spec import Spec

    def key(*changes):
        return Spec(stage="prepare", recipe=load("shapes.tiny", changes), videos="v", home_dir=tmp_path).run_key

    assert key() == key("schedule.cron=5 4 * * *")
    assert key() != key("data.frames=5")


def test_a_port_of_somebody_else_is_refused_before_anything_begins(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        served = {"name": "x", "parameters": {}, "schedule": load("shapes.tiny").schedule}
        with pytest.raises(VidgenError, match="Choose another --port"):
            serve(Home.open(tmp_path), Serving(port=port, **served))
        with pytest.raises(VidgenError, match="Choose another --metrics"):
            serve(Home.open(tmp_path), Serving(port=free_port(), metrics=port, **served))
    check_port(port, "--port")


SILENT = """
import sys
from pathlib import Path
from flows.embedded import prefect_server
from flows.home import Home

with prefect_server(Home.open(Path(sys.argv[1])), port=int(sys.argv[2])):
    from prefect.client.orchestration import get_client
    from flows.automations import be_silent, notify

    def there():
        with get_client(sync_client=True) as client:
            return len(client.read_automations())

    notify("http://127.0.0.1:9/")
    before = there()
    be_silent()
    be_silent()
    print("automations", before, there())
"""


@pytest.mark.slow
@pytest.mark.services
def test_who_is_no_longer_to_be_told_is_not(tmp_path):
    command = [sys.executable, "-c", SILENT, str(tmp_path), str(free_port())]
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    done = subprocess.run(
        command,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert "automations 3 0" in done.stdout, done.stderr


class Served:
    """`vidgen serve` as a process of its own, and what it tells."""

    def __init__(self, folder: Path, videos: Path, *changes: str) -> None:
        self.home, self.told = Home(folder / "home"), []
        self._listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._listener.serve_forever, daemon=True).start()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.api, self.log = f"http://127.0.0.1:{port}/api", folder / "serve.log"
        options = ["--recipe", "shapes.tiny", "--videos", videos, "--home", self.home.root, "--port", port]
        options += ["--notify", f"http://127.0.0.1:{self._listener.server_port}/"]
        self.changes = [*_ONE_PROCESS, *changes]
        options += [part for change in self.changes for part in ("--set", change)]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", "serve", *map(str, options)],
                env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def _handler(self):
        told = self.told

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                """Nothing."""

        return Handler

    def ask(self, place: str, **body):
        word = base64.b64encode(password_file(self.home).read_bytes()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {word}"}
        request = urllib.request.Request(f"{self.api}/{place}", json.dumps(body).encode(), headers)
        for _ in range(30):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
                time.sleep(2)  # SQLite is locked for a moment; Prefect's own client asks again, too.
        raise AssertionError("the server has no time")

    def runs(self):
        """Runs of the schedule that did begin, the first first."""
        flows = {"name": {"any_": ["nightly"]}}
        found = self.ask("flow_runs/filter", flows=flows, sort="EXPECTED_START_TIME_ASC")
        # What came due while another worked was cancelled before it ran.
        return [run for run in found if run["start_time"] and run["total_run_time"]]

    def wait(self, condition, limit_s):
        deadline = time.monotonic() + limit_s
        while not (found := self._quietly(condition)):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.5)
        return found

    @staticmethod
    def _quietly(condition):
        try:
            return condition()
        except OSError:  # The server is not up yet.
            return None

    def ended(self, count, limit_s=LIMIT_S):
        """The first so many runs, once they have ended."""

        def look():
            runs = self.runs()[:count]
            return runs if len(runs) == count and all(run["state_type"] in _ENDED for run in runs) else None

        return self.wait(look, limit_s)

    def begin(self, *changes):
        """Ask for a run with these changes on top; its id."""
        deployment = self.wait(lambda: self.ask("deployments/filter"), LIMIT_S)[0]["id"]
        state, parameters = {"type": "SCHEDULED"}, {"changes": [*self.changes, *changes]}
        return self.ask(f"deployments/{deployment}/create_flow_run", state=state, parameters=parameters)["id"]

    def end_of(self, run, limit_s=LIMIT_S):
        """The state that a run ended in."""

        def look():
            (found,) = self.ask("flow_runs/filter", flow_runs={"id": {"any_": [run]}})
            return found["state_type"] if found["state_type"] in _ENDED else None

        return self.wait(look, limit_s)

    def stage(self, name=""):
        """Processes of a stage, or of any."""
        return named("flows.stage", f"{name}.spec.json", str(self.home.root))

    def heard(self):
        """What the web address was told, in order."""
        return [one["what"].removeprefix("vidgen: ") for one in self.told]

    def logs(self, run):
        rows = self.ask("logs/filter", logs={"flow_run_id": {"any_": [run["id"]]}})
        return " ".join(row["message"] for row in rows)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(120)
        finally:
            self._listener.shutdown()
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.services
def test_a_minute_cron_fires_again_and_again_and_each_run_takes_in_what_is_new(tmp_path):
    videos, later = tmp_path / "videos", tmp_path / "later"
    make(videos, count=8, seed=1)
    make(later, count=10, seed=1)
    served = Served(tmp_path, videos, "schedule.cron=* * * * *")
    try:
        (first,) = served.ended(1)
        assert first["state_type"] == "COMPLETED", served.logs(first)
        parts = media(served.home)
        for file in later.iterdir():
            file.replace(videos / file.name)
        runs = served.ended(3)
        assert [run["state_type"] for run in runs] == ["COMPLETED"] * 3, [served.logs(run) for run in runs]
        # What a run says comes some seconds after its end.
        for run, said in zip(runs, ("shapes version 1", "shapes version 2", "Nothing new"), strict=True):
            served.wait(lambda run=run, said=said: said in served.logs(run), 120)
        assert runs[2]["total_run_time"] < 60
        assert parts.items() < media(served.home).items()
    finally:
        served.stop()
    assert not named(str(served.home.root))


def media(home: Home) -> dict[str, int]:
    """Files of clips, and when they were written."""
    return {file.name: file.stat().st_mtime_ns for file in home.tables().files("clips")}


@pytest.mark.slow
@pytest.mark.services
def test_a_cancelled_a_killed_a_refused_and_an_empty_run_end_as_such_and_are_told(tmp_path):
    videos = tmp_path / "videos"
    make(videos, count=8, seed=1)
    # No generator of six steps draws every color; and only what is asked for begins.
    served = Served(tmp_path, videos, "schedule.cron=0 0 1 1 *", "gate.min_color=1.0")
    told = ("a run failed", "a release is empty", "a promotion was refused")
    try:
        endless = served.begin("training.steps=100000")
        served.wait(lambda: served.stage("train"), LIMIT_S)
        began = time.monotonic()
        served.ask(f"flow_runs/{endless}/set_state", state={"type": "CANCELLING"})
        assert served.end_of(endless) == "CANCELLED"
        assert time.monotonic() - began < 15
        assert not served.stage()
        assert not served.heard()

        killed = served.begin("data.frames=5")
        served.wait(lambda: served.stage("prepare"), LIMIT_S)
        (engine,) = launchers(served.home.root)
        os.kill(engine, signal.SIGKILL)
        assert served.end_of(killed) == "CRASHED"
        served.wait(lambda: served.heard() == [told[0]], 120)
        served.wait(lambda: not served.stage(), 120)

        again = served.begin("data.frames=5")
        assert served.end_of(again) == "COMPLETED", served.logs({"id": again})
        served.wait(lambda: served.heard() == [told[0], told[2]], 120)
        assert "color" in served.told[-1]["why"]

        empty = served.begin("data.select.min_motion=1000")
        assert served.end_of(empty) == "FAILED"
        served.wait(lambda: sorted(served.heard()) == sorted([told[0], told[0], told[1], told[2]]), 120)

        # It is stopped in the midst of a run.
        served.begin("training.steps=100000")
        served.wait(lambda: served.stage("train"), LIMIT_S)
    finally:
        served.stop()
    assert not named(str(served.home.root))
