"""Laws of the process pool beyond those that prepare asks of every runner."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from data_prep.run import PoolRunner

PROGRAM = """
from tests.data_prep.test_pool import wait_here
from data_prep.run import PoolRunner

if __name__ == "__main__":
    for _, pid in PoolRunner(2).map(wait_here, [0.0, 60.0, 0.0, 60.0]):
        print(pid, flush=True)
"""


def wait_here(seconds):
    time.sleep(seconds)
    return os.getpid()


def parent_of_here(_):
    return os.getppid()


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_caller_that_is_killed_leaves_no_process_behind(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    root = str(Path(__file__).parents[2])
    caller = subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    )
    pids = {int(caller.stdout.readline()), int(caller.stdout.readline())}
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    caller.stdout.close()
    deadline = time.monotonic() + 20
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(running, pids))


def test_all_passes_have_one_clean_process_as_their_parent():
    runner = PoolRunner(2)
    parents = {parent for _ in range(2) for _, parent in runner.map(parent_of_here, range(4))}
    assert len(parents) == 1
    assert os.getpid() not in parents
