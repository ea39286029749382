"""A run that is stopped anywhere, by Ctrl-C, by a polite or by an impolite kill: nothing is left, nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep.samples import make
from data_prep.tables import Tables
from vidgen_core import weights

ROOT = Path(__file__).parents[2]
VIDEOS = 40
LIMIT_S = 240
# Checkpoints every few steps, and enough steps to be caught between two.
SLOWLY = [
    "codec_training.steps=60",
    "training.steps=90",
    "codec_training.checkpoint_every=5",
    "training.checkpoint_every=5",
]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}


def command(videos, home):
    changes = [word for change in SLOWLY for word in ("--set", change)]
    line = ["run", "--recipe", "shapes.tiny", "--videos", str(videos), "--home", str(home), *changes]
    return [sys.executable, "-m", "flows.cli", *line]


def environment(mark=""):
    return {**os.environ, "PYTHONPATH": str(ROOT), "VIDGEN_TEST_MARK": str(mark)}


def ours(mark):
    """Processes that were started with a mark in their environment, and still live."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            marked = f"VIDGEN_TEST_MARK={mark}".encode() in (process / "environ").read_bytes().split(b"\0")
            alive = (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            continue
        if marked and alive:
            found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def half_prepared(home):
    return bool(Tables(home / "tables").committed("sources"))


def half_encoded(home):
    return bool(list(home.glob("codecs/*/checkpoints/step-*/manifest.json")))


def half_trained(home):
    return bool(list(home.glob("training/*/checkpoints/step-*/manifest.json")))


def stop(videos, home, mark, *, when, by):
    """Start the command, stop it when a condition holds, and see that it goes and takes all along."""
    process = subprocess.Popen(
        command(videos, home), env=environment(mark), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + LIMIT_S
    while not when(home):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ours(mark)
    process.send_signal(by)
    ended = time.monotonic()
    assert process.wait(10) == CODES[by]
    while ours(mark) and time.monotonic() - ended < 10:
        time.sleep(0.1)
    assert ours(mark) == []
    assert b"Traceback" not in process.stderr.read()


def releases(home):
    return {file.name for file in (home / "releases").glob("*.json")}


def part_times(home, table):
    tables = Tables(home / "tables")
    return {file.name: file.stat().st_mtime_ns for file in tables.files(table)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Videos, and the home of a run over them that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    make(folder / "videos", count=VIDEOS, seed=1)
    ran = subprocess.run(
        command(folder / "videos", folder / "home"),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=2 * LIMIT_S,
    )
    assert ran.returncode == 0, ran.stderr
    return folder / "videos", folder / "home"


@pytest.mark.slow
@pytest.mark.parametrize("by", CODES, ids=[one.name for one in CODES])
def test_stopped_in_every_stage_it_goes_on_and_ends_with_the_same_release(by, whole, tmp_path):
    videos, undisturbed = whole
    home = tmp_path / "home"
    stop(videos, home, tmp_path / "prepare", when=half_prepared, by=by)
    prepared = part_times(home, "sources")
    assert 0 < len(prepared) < VIDEOS
    stop(videos, home, tmp_path / "latents", when=half_encoded, by=by)
    cut = part_times(home, "clips")
    stop(videos, home, tmp_path / "train", when=half_trained, by=by)
    ran = subprocess.run(
        command(videos, home), env=environment(), capture_output=True, text=True, timeout=2 * LIMIT_S, check=False
    )
    assert ran.returncode == 0, ran.stderr

    assert releases(home) == releases(undisturbed)
    assert len(releases(home)) == 1
    # What was committed before the kill was not written again.
    assert prepared.items() <= part_times(home, "sources").items()
    assert cut == part_times(home, "clips")
    resumed = [
        weights.read_card(final)["fitted"]["resumed_from"]
        for final in [*home.glob("codecs/*/final"), *home.glob("training/*/final")]
    ]
    assert len(resumed) == 2
    assert all(step > 0 for step in resumed)
