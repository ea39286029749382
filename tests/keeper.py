"""Nothing that tests start outlives them, even when they are ended by SIGKILL: `with kept() as mark`.

What is started inherits a mark in its environment, whatever session, parent or user it moves to. A keeper beside the
tests waits for their end, and kills all that has the mark.
"""

import contextlib
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.processes import below, marked, since

NAME = "VIDGEN_TESTS_MARK"
LOOK_EVERY_S = 1.0
SWEEP_S = 30.0


@contextlib.contextmanager
def kept():
    """The mark of what is started until the block ends, or this process does."""
    mark = secrets.token_hex(16)
    # Its own environment is empty: another keeper, of tests that started these, must not take it for one of theirs.
    keeper = subprocess.Popen(
        [sys.executable, "-S", "-E", "-m", "tests.keeper", mark],
        env={}, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    os.environ[NAME] = mark
    try:
        yield mark
    finally:
        del os.environ[NAME]
        keeper.stdin.close()
        keeper.wait()


class Kept:
    """What has the mark or was started by that: PostgreSQL and Ray write their titles over their environment."""

    def __init__(self, mark):
        self.mark, self._known = mark, {}

    def look(self):
        """Those that are there now."""
        for pid in below(*marked(NAME, self.mark)):
            self._known[pid] = since(pid)
        self._known = {pid: began for pid, began in self._known.items() if began and since(pid) == began}
        return list(self._known)

    def sweep(self):
        """Kill all of them; twice nothing, since one may have forked between two looks."""
        deadline, quiet = time.monotonic() + SWEEP_S, 0
        while quiet < 2 and time.monotonic() < deadline:
            found = self.look()
            quiet = 0 if found else quiet + 1
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


def main(mark):
    tests, kept = os.getppid(), Kept(mark)
    # A child that was forked without a program of its own may hold the pipe longer than they live.
    while not select.select([0], [], [], LOOK_EVERY_S)[0] and os.getppid() == tests:
        kept.look()
    kept.sweep()


if __name__ == "__main__":
    main(sys.argv[1])
