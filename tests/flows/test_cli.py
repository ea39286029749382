"""The command as a user meets it, in a real process: sentences, exit codes, no tracebacks, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep.samples import make

ROOT = Path(__file__).parents[2]
VIDGEN = [sys.executable, "-m", "flows.cli"]


def vidgen(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*VIDGEN, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=280, **options
    )


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def refused(result, words):
    said = " ".join(result.stderr.split())
    assert result.returncode == 2, said
    assert words in said
    assert "Traceback" not in result.stdout + result.stderr


def test_bad_input_gets_a_sentence_and_exit_code_2(tmp_path, home):
    empty, notes = tmp_path / "empty", tmp_path / "notes"
    empty.mkdir()
    notes.mkdir()
    (notes / "a.md").write_text("words")
    refused(vidgen("run", "--videos", empty, "--home", home), "vidgen videos make")
    refused(vidgen("run", "--videos", notes, "--home", home), "None of the folder's 1 files is a video")
    refused(vidgen("run", "--videos", tmp_path / "gone", "--home", home), "no such folder")
    refused(vidgen("run", "--recipe", "shapes.demmo", "--home", home), "Did you mean 'shapes.demo'")
    refused(vidgen("run", "--set", "data.fames=3", "--home", home), "Did you mean 'frames'")
    refused(vidgen("rum"), "rum")


def test_a_bad_model_or_prompt_gets_a_sentence(tmp_path, home):
    common = ("--out", tmp_path / "x.mp4", "--home", home)
    refused(vidgen("sample", "--model", "nothing@champion", "--prompt", "a", *common), "no model 'nothing'")
    refused(vidgen("sample", "--prompt", "a" * 10_000, *common), "10000 characters")
    refused(vidgen("sample", "--prompt", " ", *common), "prompt is empty")


def test_help_is_there_at_once_and_loads_nothing_heavy():
    code = "import sys, flows.cli; print(sorted({'torch', 'ray', 'prefect', 'mlflow'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert shown.stdout.strip() == "[]"


def ours(mark):
    """Processes whose command line or environment names a folder of this test."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            alive = (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            continue
        if str(mark).encode() in words and alive and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("way", ["interrupt", "kill"])
def test_stopped_in_the_middle_nothing_is_left_and_it_finishes_with_the_same_release(way, tmp_path):
    videos = tmp_path / "videos"
    make(videos, count=8, seed=1)
    run = ["run", "--recipe", "shapes.tiny", "--videos", str(videos), "--home"]
    assert vidgen(*run, tmp_path / "whole").returncode == 0
    broken = tmp_path / "broken"
    for stage in ("prepare", "latents", "train"):
        mark = tmp_path / f"mark-{stage}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "VIDGEN_TEST_MARK": str(mark)}
        process = subprocess.Popen(
            [*VIDGEN, *run, str(broken)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 200
        while not list(broken.glob(f"runs/*/{stage}.log")) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(4.0)
        process.send_signal(signal.SIGINT if way == "interrupt" else signal.SIGKILL)
        process.wait(20)
        ended = time.monotonic()
        while ours(mark) and time.monotonic() - ended < 10:
            time.sleep(0.2)
        assert ours(mark) == []
    assert vidgen(*run, broken).returncode == 0
    releases = [{file.name for file in (tmp_path / home / "releases").glob("*.json")} for home in ("whole", "broken")]
    assert releases[0] == releases[1]
    assert len(releases[0]) == 1
