"""What a command costs, with everything that it starts: `python process_cost.py RESULT.json LIMIT_S COMMAND ...`.

This process adopts every orphan below it, so the kernel's account of its ended children has the seconds of daemons too:
Ray's leave their parents at once. Not in that account are children of a process that ignores their end, as Ray's raylet
does: their seconds are read while they run. Standard library only, and run as a file: it adds nothing of its own.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
LOOK_EVERY_S = 0.1
# What is left when the command has ended gets so long to end by itself.
REST_S = 5.0
LATE_EXIT = 124


def main(result: Path, limit_s: float, command: list[str]) -> int:
    """Run the command; write its exit code, seconds of CPU and of the clock, and most resident memory.

    What is not done at the limit is ended, with all that it started, and has the exit code 124.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    began, watch = time.monotonic(), _Watch()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while child.poll() is None and time.monotonic() - began < limit_s:
        watch.look()
        time.sleep(LOOK_EVERY_S)
    wall_s, code = time.monotonic() - began, child.returncode
    if code is None:
        child.kill()
        code = LATE_EXIT
    _end_the_rest(watch)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost = {"exit": code, "cpu_s": used.ru_utime + used.ru_stime + watch.unaccounted_s(),
            "wall_s": wall_s, "peak_rss_mb": watch.peak_bytes / 2**20}  # fmt: skip
    result.write_text(json.dumps(cost))
    return code


class _Watch:
    """Most memory so far, and the seconds of processes that no parent will wait for."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._seconds: dict[int, float] = {}

    def look(self) -> None:
        resident = 0
        waiting = [(os.getpid(), False)]
        while waiting:
            parent, ignores = waiting.pop()
            for child in _children(parent):
                with contextlib.suppress(OSError, ValueError, IndexError):
                    # Behind the name in parentheses: the state and numbers, 11 to 14 of them ticks and 21 pages.
                    numbers = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                    resident += int(numbers[21]) * os.sysconf("SC_PAGE_SIZE")
                    if ignores:
                        self._seconds[child] = sum(map(int, numbers[11:15])) / os.sysconf("SC_CLK_TCK")
                    waiting.append((child, _ignores_children(child)))
        self.peak_bytes = max(self.peak_bytes, resident)

    def waited_for(self, pid: int) -> None:
        """It came to us after all, and is in the account."""
        self._seconds.pop(pid, None)

    def unaccounted_s(self) -> float:
        return sum(self._seconds.values())


def _end_the_rest(watch: _Watch) -> None:
    """Wait for what is left, and kill what does not end by itself."""
    deadline = time.monotonic() + REST_S
    while True:
        watch.look()
        if time.monotonic() > deadline:
            for pid in _children(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        try:
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                watch.waited_for(pid)
        except ChildProcessError:
            return
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def _ignores_children(pid: int) -> bool:
    """Whether a process ignores SIGCHLD: then its ended children are in nobody's account."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    ignored = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn"))
    return bool(ignored >> (signal.SIGCHLD - 1) & 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
