"""Laws of the process pool beyond those that prepare asks of every runner."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from data_prep import run
from data_prep.run import Failure, PoolRunner, RayRunner

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


MIB = 2**20
LEAKED = []


def leak(number):
    """A task whose decoder leaks; it ends its process where the leaks of others would have been its own."""
    LEAKED.append(b"x" * 40 * MIB)
    if len(LEAKED) > 6 or number == 7:
        os._exit(1)
    return os.getpid()


def test_a_leak_costs_no_item_and_no_run(monkeypatch):
    monkeypatch.setattr(run, "GROWN_BYTES", 60 * MIB)
    found = list(PoolRunner(2).map(leak, range(20)))
    assert sorted(number for number, _ in found) == list(range(20))
    failed = [number for number, result in found if isinstance(result, Failure)]
    assert failed == [7]
    assert len({result for _, result in found if isinstance(result, int)}) > 2


def pid_of_here(_):
    return os.getpid()


def test_a_process_of_ray_ends_after_some_tasks(ray_session, monkeypatch):
    monkeypatch.setattr(run, "TASKS_A_PROCESS", 2)
    pids = [pid for _, pid in RayRunner(cores=1).map(pid_of_here, range(6))]
    assert max(pids.count(pid) for pid in pids) == 2
