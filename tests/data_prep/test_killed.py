"""Killed at fifty random moments, a run over a hundred sources ends with the release of an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.samples import make
from data_prep.tables import Tables

ROOT = Path(__file__).parents[2]
SOURCES, KILLS, WORKERS = 110, 50, 2
PROGRAM = """
import sys
from pathlib import Path
from data_prep.prepare import prepare
from data_prep.run import PoolRunner
from data_prep.settings import DataSettings
from data_prep.tables import Tables

if __name__ == "__main__":
    videos, tables = map(Path, sys.argv[1:3])
    print(prepare(videos, Tables(tables), DataSettings(), PoolRunner(int(sys.argv[3]))).release.digest)
"""


def started(videos, tables):
    command = [sys.executable, str(tables.parent / "program.py"), str(videos), str(tables), str(WORKERS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )


def digest_of(videos, tables):
    tables.parent.mkdir(exist_ok=True)
    (tables.parent / "program.py").write_text(PROGRAM)
    process = started(videos, tables)
    answer, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    return answer.strip()


def analyzed(tables):
    """Files of analyzed sources, whole and in their place, with the time when they were written."""
    return {file.name: file.stat().st_mtime_ns for file in (tables / "sources").glob("part-*.parquet")}


@pytest.mark.slow
def test_fifty_kills_change_no_bit_and_cost_no_more_than_what_was_under_way(tmp_path):
    videos = tmp_path / "videos"
    make(videos, count=SOURCES, seed=3)
    undisturbed = digest_of(videos, tmp_path / "undisturbed" / "tables")
    tables = tmp_path / "killed" / "tables"
    tables.parent.mkdir()
    (tables.parent / "program.py").write_text(PROGRAM)
    rng, kills, redone = random.Random(11), 0, 0
    while kills < KILLS:
        before, process = analyzed(tables), started(videos, tables)
        try:
            # From the first import to the middle of the work that is left.
            process.wait(rng.uniform(0.2, 6.0))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            kills += 1
        else:
            assert process.returncode == 0
            assert process.stdout.read().strip() == undisturbed
            # It was quicker than the kill: begin anew.
            tables = tables.parent / f"tables-{kills}"
            continue
        after = analyzed(tables)
        redone += sum(before[name] != after[name] for name in before.keys() & after.keys())
    assert digest_of(videos, tables) == undisturbed
    assert redone <= 2 * WORKERS * KILLS
    assert Tables(tables).committed("sources")
