"""The command as a user meets it, in a real process: sentences, exit codes, no tracebacks, nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
