"""The doctor: a sound machine has nothing to mend, each fault is found with a move, and the exit code tells."""

import base64
import http.server
import json
import os
import resource
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from flows.checks import accelerators, decoders, folders, machine, packages, services, weights
from flows.checks._finding import State, Subject
from flows.commands.doctor import told
from flows.recipes.recipe import load
from vidgen_core import discovery


@pytest.fixture
def subject(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "a.mp4").write_bytes(b"a")
    return Subject(home=tmp_path / "home", videos=str(videos), recipe=load("shapes.demo"))


def states(findings):
    return {one.what: one.state for one in findings}


@pytest.mark.parametrize("name", discovery.names("flows.checks"))
def test_every_check_finds_something_and_says_a_move_for_what_is_not_good(subject, name):
    found = list(discovery.load("flows.checks", name).check(subject))
    assert found
    for one in found:
        assert one.what and one.found
        assert bool(one.move) == (one.state in (State.DOUBTFUL, State.BAD))


def test_this_environment_has_what_vidgen_asks_for(subject):
    assert set(states(packages.check(subject)).values()) == {State.GOOD}


def test_a_wrong_version_and_a_missing_package_are_found_and_an_extra_that_is_missing_is_not():
    version = metadata.version("sqlalchemy")
    assert packages.judge(Requirement(f"sqlalchemy=={version}")) is None
    wrong = packages.judge(Requirement(f"sqlalchemy<{version}"))
    assert wrong.state is State.BAD and version in wrong.found and "pip install" in wrong.move
    assert packages.judge(Requirement("no-such-package>=1")).state is State.BAD
    assert packages.judge(Requirement('no-such-package>=1; extra == "gpu"')) is None


def test_ffmpeg_and_both_decoders_give_every_frame_back(subject):
    assert states(decoders.check(subject)) == {"ffmpeg": State.GOOD, "PyAV": State.GOOD, "decord": State.GOOD}


def test_a_decoder_that_gives_other_frames_is_found(subject, monkeypatch):
    right = decoders._by_decord
    monkeypatch.setattr(decoders, "_by_decord", lambda file: right(file)[::-1])
    assert states(decoders.check(subject))["decord"] is State.BAD


def test_an_ffmpeg_that_is_not_there_is_found(subject, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/bin/false")
    assert states(decoders.check(subject)) == {"ffmpeg": State.BAD}


def test_a_home_that_cannot_be_made_an_open_one_and_missing_videos_are_found(subject, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert states(folders.check(subject.model_copy(update={"home": file / "home"})))["home"] is State.BAD
    subject.home.mkdir()
    subject.home.chmod(0o777)
    assert states(folders.check(subject))["permissions"] is State.DOUBTFUL
    gone = subject.model_copy(update={"videos": str(tmp_path / "gone")})
    assert states(folders.check(gone))["videos"] is State.BAD


def test_few_open_files_and_a_clock_in_the_past_are_found(subject):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        assert states(machine.check(subject))["open files"] is State.BAD
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert machine.clock(1e9).state is State.BAD


def test_named_weights_must_be_there(tmp_path):
    file = tmp_path / "head.safetensors"
    recipe = load("shapes.demo", [f"data.scores.aesthetic.weights={file}"])
    subject = Subject(home=tmp_path, videos=str(tmp_path), recipe=recipe)
    missing = [one for one in weights.check(subject) if one.state is State.BAD]
    assert [one.what for one in missing] == ["data.scores.aesthetic.weights"]
    file.write_bytes(b"")
    assert states(weights.check(subject))["data.scores.aesthetic.weights"] is State.GOOD


def test_a_token_that_others_can_read_or_none_at_all_is_found(subject, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        ray = f"127.0.0.1:{server.getsockname()[1]}"

        def of(**environment):
            return states(services.check(subject.model_copy(update={"ray": ray, "environment": environment})))

        token = tmp_path / "token"
        token.write_text("secret")
        token.chmod(0o644)
        named = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        assert of()["ray's token"] is State.BAD
        assert of(**named)["ray's token"] is State.BAD
        token.chmod(0o600)
        assert of(**named) == {"prefect": State.ABSENT, "ray's token": State.GOOD, "ray": State.GOOD}
        assert of(RAY_AUTH_MODE="disabled")["ray's token"] is State.DOUBTFUL
    assert of(**named)["ray"] is State.BAD


@contextmanager
def prefect_server(answer, word=None, date=None):
    """Something that answers as Prefect's server does when it is asked for its version."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(answer).encode()
            wanted = None if word is None else f"Basic {base64.b64encode(word.encode()).decode()}"
            self.send_response_only(200 if wanted in (None, self.headers["Authorization"]) else 401)
            self.send_header("Date", date or self.date_time_string())
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"PREFECT_API_URL": f"http://127.0.0.1:{server.server_port}/api"}
        server.shutdown()


def test_prefects_server_is_asked_for_its_version_its_clock_and_whether_it_lets_us_in(subject):
    def of(environment):
        return states(services.check(subject.model_copy(update={"environment": environment})))

    ours = metadata.version("prefect")
    with prefect_server(ours) as good:
        assert of(good) == {"prefect": State.GOOD, "prefect's clock": State.GOOD}
    assert of(good) == {"prefect": State.BAD}
    with prefect_server("2.20.1") as old:
        assert of(old)["prefect"] is State.BAD
    with prefect_server(ours, date="Thu, 01 Jan 2026 00:00:00 GMT") as late:
        assert of(late)["prefect's clock"] is State.DOUBTFUL
    with prefect_server(ours, word="me:secret") as closed:
        assert of(closed)["prefect"] is State.DOUBTFUL
        assert of({**closed, "PREFECT_API_AUTH_STRING": "me:wrong"})["prefect"] is State.DOUBTFUL
        assert of({**closed, "PREFECT_API_AUTH_STRING": "me:secret"})["prefect"] is State.GOOD


@pytest.mark.parametrize("name", ["training.device", "codec_training.device"])
def test_a_recipe_that_asks_for_a_gpu_is_told_where_there_is_none(subject, monkeypatch, name):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert states(accelerators.check(subject)) == {"accelerator": State.ABSENT}
    asking = subject.model_copy(update={"recipe": load("shapes.demo", [f"{name}=cuda"])})
    (found,) = accelerators.check(asking)
    assert found.state is State.BAD
    assert name in found.found
    elsewhere = asking.model_copy(update={"ray": "head:6379"})
    assert states(accelerators.check(elsewhere)) == {"accelerator": State.ABSENT}


def test_the_report_ends_with_the_moves(subject):
    found = list(folders.check(subject.model_copy(update={"videos": "/nowhere"})))
    assert "vidgen videos make" in told(found, as_json=False).splitlines()[-1]
    assert json.loads(told(found, as_json=True))[-1]["state"] == "bad"


def test_the_command_ends_with_1_when_a_run_would_fail_and_with_0_when_not(subject, tmp_path):
    def doctor(videos):
        command = [sys.executable, "-m", "flows.cli", "doctor", "--home", str(tmp_path / "h"), "--videos", videos]
        environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    assert doctor(str(tmp_path / "gone")).returncode == 1
    well = doctor(subject.videos)
    assert well.returncode == 0, well.stdout
