"""Stages as jobs of a cluster's job server: stopped here they stop there, and a killed command finds its job again."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from data_prep.samples import make
from data_prep.tables import Tables

ROOT = Path(__file__).parents[2]
VIDEOS, LIMIT_S, BACK_S = 60, 400, 40
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A head with a job server on a free port: its address and the environment that opens it."""
    temporary = tempfile.mkdtemp(prefix="vg", dir="/tmp")
    token = tmp_path_factory.mktemp("secret") / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    port, agent_port = free_port(), free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_TMPDIR": temporary,
    }  # fmt: skip
    (Path(temporary) / "ray").mkdir()
    head = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--num-cpus=2", "--port=0", "--block",
            f"--temp-dir={temporary}", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}",
            # Its default is taken where another Ray runs, and then no job is.
            f"--dashboard-agent-listen-port={agent_port}",
            "--object-store-memory=80000000"]  # fmt: skip
    process = subprocess.Popen(head, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + LIMIT_S
    while not answers(f"{address}/api/version"):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.5)
    yield address, environment
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(60)
    shutil.rmtree(temporary, ignore_errors=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=5)
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    make(folder, count=VIDEOS, seed=1)
    return folder


def submit(server, videos, home, **environment):
    address, known = server
    line = ["submit", "prepare", "--jobs", address, "--recipe", "shapes.tiny", "--videos", videos, "--home", home]
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *map(str, line)], env={**known, **environment}, cwd=home.parent,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process):
    _, told = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, told


def half_way(process, home):
    deadline = time.monotonic() + LIMIT_S
    while not Tables(home / "tables").committed("sources"):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stages(home):
    """Processes that work on a stage of this home."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"flows.stage" in words and any(str(home).encode() in word for word in words):
            found.append(file.parent.name)
    return found


def test_a_killed_command_finds_its_job_again_and_a_stopped_one_stops_it(server, videos, tmp_path):
    home = tmp_path / "home"
    killed = submit(server, videos, home)
    half_way(killed, home)
    (stage,) = stages(home)
    killed.kill()
    killed.wait()
    # It holds still until the command is back.
    os.kill(int(stage), signal.SIGSTOP)
    (spec,) = home.glob("runs/*/prepare.spec.json")
    submitted = spec.stat().st_mtime_ns
    again = submit(server, videos, home)
    time.sleep(BACK_S)
    assert stages(home) == [stage]
    os.kill(int(stage), signal.SIGCONT)
    ended(again)
    # A second job would have come with a spec of its own.
    assert spec.stat().st_mtime_ns == submitted
    assert stages(home) == []

    other = tmp_path / "other"
    stopped = submit(server, videos, other)
    half_way(stopped, other)
    stopped.send_signal(signal.SIGINT)
    assert stopped.wait(30) == 130
    assert stages(other) == []
    assert len(Tables(other / "tables").committed("sources")) < len(Tables(home / "tables").committed("sources"))
    ended(submit(server, videos, other))
    tables = ["sources", "spans", "clips", "captions", "rejects"]
    assert Tables(home / "tables").release(tables).digest == Tables(other / "tables").release(tables).digest


def test_without_the_token_nothing_runs(server, videos, tmp_path):
    address, _ = server
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address}/api/jobs/", timeout=5)
    assert refused.value.code == 401
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    process = submit(server, videos, tmp_path / "home", RAY_AUTH_TOKEN_PATH=str(wrong))
    _, told = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2, told
    assert "does not take our jobs" in told
    assert "Traceback" not in told
