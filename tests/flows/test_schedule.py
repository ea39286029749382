"""A one-minute cron really fires: with a newer sqlalchemy nothing is scheduled, and nothing says so."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

SERVED = """
import sys
from pathlib import Path

from prefect import flow
from prefect.schedules import Cron


@flow
def tick():
    with Path(sys.argv[1]).open("a") as file:
        file.write("tick\\n")


if __name__ == "__main__":
    tick.serve(name="tick", schedule=Cron("* * * * *"), pause_on_shutdown=False)
"""


@contextmanager
def running(command, environment, log):
    """A process with a group of its own, which is gone afterwards."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)


def wait_for(condition, process, log, limit_s):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.services
def test_a_one_minute_cron_really_fires(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    api = f"http://127.0.0.1:{port}/api"
    environment = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_UI_ENABLED": "false",
    }
    script, ticks = tmp_path / "served.py", tmp_path / "ticks"
    script.write_text(SERVED)
    server_log, served_log = tmp_path / "server.log", tmp_path / "served.log"

    def healthy():
        try:
            with urllib.request.urlopen(f"{api}/health", timeout=1) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    start = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with running(start, environment, server_log) as server:
        wait_for(healthy, server, server_log, 90)
        with running([sys.executable, str(script), str(ticks)], environment, served_log) as served:
            # A minute to the next tick at most, and what the scheduler and the runner need on a busy machine.
            wait_for(ticks.exists, served, served_log, 150)
