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
# A disk of its own, mounted where only these processes see it; something else fills it while the command runs.
SCRIPT = f"""
mount -t tmpfs -o size=$SIZE none $HOME_DIR || exit 77
{RUN} &
until [ -e $HOME_DIR/$WHEN ] || ! kill -0 $!; do sleep 0.05; done
head -c 2G /dev/zero > $HOME_DIR/balloon 2> /dev/null
wait $!
echo "code of the full disk: $?"
[ $WHEN = . ] && exit
rm $HOME_DIR/balloon
{RUN}
echo "code with more room: $?"
"""


def on_small_disk(folder, *, size, when):
    make(folder / "videos", count=12, seed=1)
    (folder / "home").mkdir()
    given = {"PYTHONPATH": str(ROOT), "VIDEOS": str(folder / "videos"), "HOME_DIR": str(folder / "home")}
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", SCRIPT], capture_output=True, text=True,
        env={**os.environ, **given, "SIZE": size, "WHEN": when}, timeout=600, check=False,
    )  # fmt: skip
    if done.returncode == 77 or "unshare:" in done.stderr:
        pytest.skip(f"this machine lets no user mount a disk: {done.stderr.strip()}")
    return done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare to mount a small disk with")
def test_a_disk_that_is_nearly_full_is_a_sentence_before_anything_begins(tmp_path):
    told = on_small_disk(tmp_path, size="20m", when=".")
    assert "code of the full disk: 2\n" in told, told
    assert "nearly full" in told
    assert "Free some space" in told
    assert "Traceback" not in told


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare to mount a small disk with")
@pytest.mark.parametrize("when", ["tables", "codecs", "training"])
def test_a_disk_that_fills_up_is_a_sentence_and_costs_nothing(when, tmp_path):
    told = on_small_disk(tmp_path, size="1g", when=when)
    assert "code of the full disk: 2\n" in told, told
    assert "The disk is full" in told
    assert "Free some space" in told
    assert "Traceback" not in told
    assert "code with more room: 0" in told, told
