"""Run one command so that nothing of it outlives us: `python guard.py COMMAND ...`, held by a pipe on standard input.

The guard adopts every orphan below it, so that it finds all descendants whatever group or session they moved to.
A byte on the pipe asks for a clean stop; its end means that the launcher is dead. Either way, and also when the
command ends by itself, all descendants are killed before the guard ends. It exits as the command did.

Standard library only, and run as a file: it must start in a few milliseconds.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# A stage is safe against kill -9, so a clean stop only saves it from looking crashed in MLflow: not worth a long wait.
CLEAN_STOP_S = 3.0
SWEEP_S = 4.0


def main(command: list[str]) -> int:
    """Run `command` to its end or to the end of our pipe; its exit code, or 128 + its signal."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    for ours in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ours, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))

    def die_with_the_guard() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # An ignored signal stays ignored in the child, and Ctrl-C must interrupt it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_the_guard, process_group=0)
        asked = _wait_for_end_or_order(child)
        if asked:
            child.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(CLEAN_STOP_S)
        code = child.poll()
    finally:
        _sweep()
    if code is None:
        return 128 + signal.SIGKILL
    return code if code >= 0 else 128 - code


def _wait_for_end_or_order(child: subprocess.Popen[bytes]) -> bool:
    """True when a clean stop was asked for; False when the child ended or the launcher died."""
    ended = os.pidfd_open(child.pid)
    try:
        ready, _, _ = select.select([0, ended], [], [])
        return 0 in ready and os.read(0, 1) != b""
    finally:
        os.close(ended)


def _sweep() -> None:
    """Kill all descendants, again and again, since one may have forked or been adopted between two looks."""
    deadline = time.monotonic() + SWEEP_S
    while time.monotonic() < deadline:
        for pid in _descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *_descendants(child)]
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
