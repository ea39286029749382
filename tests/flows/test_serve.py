"""`vidgen serve` with a real server: a cron that fires, only what is new is processed, and what goes wrong is told."""

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from data_prep.samples import make
from flows.home import Home
from flows.recipes.recipe import load
from flows.serving import check_notify
from vidgen_core.errors import VidgenError

ROOT = Path(__file__).parents[2]
_ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


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
        options += [part for change in ("training.launcher=process", *changes) for part in ("--set", change)]
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
        request = urllib.request.Request(
            f"{self.api}/{place}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def runs(self):
        """Runs of the schedule that did begin, the first first."""
        flows = {"name": {"any_": ["nightly"]}}
        found = self.ask("flow_runs/filter", flows=flows, sort="EXPECTED_START_TIME_ASC")
        return [run for run in found if run["start_time"]]

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

    def ended(self, count, limit_s=400):
        """The first so many runs, once they have ended."""

        def look():
            runs = self.runs()[:count]
            return runs if len(runs) == count and all(run["state_type"] in _ENDED for run in runs) else None

        return self.wait(look, limit_s)

    def logs(self, run):
        rows = self.ask("logs/filter", logs={"flow_run_id": {"any_": [run["id"]]}})
        return " ".join(row["message"] for row in rows)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        finally:
            self._listener.shutdown()
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)


def working_in(home: Home) -> list[int]:
    """Processes that name the home in their command."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(home.root) in place.read_bytes().decode(errors="replace"):
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.services
def test_a_minute_cron_fires_again_and_again_and_each_run_takes_in_what_is_new(tmp_path):
    videos = tmp_path / "videos"
    make(videos, count=8, seed=1)
    served = Served(tmp_path, videos, "schedule.cron=* * * * *")
    try:
        (first,) = served.ended(1)
        assert first["state_type"] == "COMPLETED", served.log.read_text()
        parts = {file.name: file.stat().st_mtime_ns for file in served.home.tables().files("clips")}
        make(videos, count=10, seed=1)
        runs = served.ended(3)
        assert [run["state_type"] for run in runs] == ["COMPLETED"] * 3, served.log.read_text()
        assert "shapes version 2" in served.logs(runs[1]) or "Nothing new" in served.logs(runs[1])
        said = [served.logs(run) for run in served.ended(4)]
        assert "version 2" in " ".join(said[1:])
        assert "Nothing new" in said[-1]
        assert runs[-1]["total_run_time"] < 60 or "version 2" in said[2]
        now = {file.name: file.stat().st_mtime_ns for file in served.home.tables().files("clips")}
        assert parts.items() < now.items()
    finally:
        served.stop()
    assert not working_in(served.home)


@pytest.mark.slow
@pytest.mark.services
def test_a_cancelled_a_killed_and_a_failed_run_end_as_such_and_the_failure_is_told(tmp_path):
    videos = tmp_path / "videos"
    make(videos, count=8, seed=1)
    served = Served(tmp_path, videos, "schedule.cron=* * * * *", "training.steps=100000", "data.select.min_motion=0")

    def stage_of(name):
        return lambda: (
            [run for run in served.runs() if run["state_type"] == "RUNNING"]
            and next(iter(served.home.runs_dir.glob(f"*/{name}.log")), None)
        )

    try:
        served.wait(stage_of("train"), 300)
        (running,) = [run for run in served.runs() if run["state_type"] == "RUNNING"]
        began = time.monotonic()
        served.ask(f"flow_runs/{running['id']}/set_state", state={"type": "CANCELLING"})
        served.wait(lambda: served.runs()[0]["state_type"] in _ENDED, 60)
        assert served.runs()[0]["state_type"] == "CANCELLED"
        assert time.monotonic() - began < 15
        assert not [pid for pid in working_in(served.home) if pid not in (served.process.pid,) and _is_stage(pid)]
        served.wait(lambda: [run for run in served.runs()[1:] if run["state_type"] == "RUNNING"], 150)
        served.wait(lambda: _engines(served.home), 60)
        for pid in _engines(served.home):
            os.kill(pid, signal.SIGKILL)
        served.wait(lambda: [run for run in served.runs()[1:] if run["state_type"] == "CRASHED"], 60)
        served.wait(lambda: [one for one in served.told if one["what"] == "vidgen: a run failed"], 60)
    finally:
        served.stop()
    assert not [pid for pid in working_in(served.home) if _is_stage(pid)]


def _is_stage(pid: int) -> bool:
    try:
        return b"flows.stage" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _engines(home: Home) -> list[int]:
    """Processes of runs: what has a stage of this home below it and was started by Prefect's runner."""
    found = set()
    for pid in working_in(home):
        if not _is_stage(pid):
            continue
        while pid > 1:
            status = Path(f"/proc/{pid}/status").read_text()
            pid = int(status.split("PPid:")[1].split()[0])
            if b"prefect" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
                break
    return sorted(found)
