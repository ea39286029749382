"""A disk that fills up while the command runs: a sentence, and with more room the same command goes on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.samples import make

ROOT = Path(__file__).parents[2]
RUN = f"{sys.executable} -m flows.cli run --recipe shapes.tiny --videos $VIDEOS --home $HOME_DIR"
# A disk of its own, mounted where only these processes see it.
SCRIPT = f"""
mount -t tmpfs -o size=$SIZE none $HOME_DIR || exit 77
{RUN}
echo "code of the full disk: $?"
mount -o remount,size=4g $HOME_DIR
{RUN}
echo "code with more room: $?"
"""


def on_small_disk(size, folder):
    (folder / "home").mkdir()
    given = {"PYTHONPATH": str(ROOT), "VIDEOS": str(folder / "videos"), "HOME_DIR": str(folder / "home"), "SIZE": size}
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", SCRIPT], capture_output=True, text=True,
        env={**os.environ, **given}, timeout=600, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare to mount a small disk with")
@pytest.mark.parametrize("size", ["200k", "3m", "12m"])
def test_a_full_disk_is_a_sentence_and_costs_nothing(size, tmp_path):
    make(tmp_path / "videos", 12, seed=1)
    done = on_small_disk(size, tmp_path)
    if done.returncode == 77 or "unshare:" in done.stderr:
        pytest.skip(f"this machine lets no user mount a disk: {done.stderr.strip()}")
    told = done.stdout + done.stderr
    assert "code of the full disk: 28" in told, told
    assert "The disk is full" in told
    assert "Free some space" in told
    assert "Traceback" not in told
    assert "code with more room: 0" in told, told
