"""Whether a run was asked to stop: by SIGTERM, or by a file where signals do not reach the worker, as on Ray."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["STOPPED_EXIT", "Stop", "ask", "asking_by_file", "hear"]

_FILE = "stop"
_LOOK_S = 1.0
STOPPED_EXIT = 128 + signal.SIGTERM
_heard = threading.Event()


class Stop:
    """True once this worker was asked to stop.

    Args:
        work_dir: The run's folder.
        looks: Whether this worker looks for the file; one of them is enough.

    """

    def __init__(self, work_dir: Path, *, looks: bool) -> None:
        self._file, self._looks = work_dir / _FILE, looks
        self._asked, self._looked = False, time.monotonic()
        self._before: Any = None

    def __call__(self) -> bool:
        """Whether to stop after this step."""
        if self._looks and not self._asked and time.monotonic() - self._looked > _LOOK_S:
            self._looked = time.monotonic()
            self._asked = self._file.exists()
        return self._asked or _heard.is_set()

    def __enter__(self) -> "Stop":
        if _signals_reach_us():
            self._before = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True


def ask(work_dir: Path) -> None:
    """Ask the workers of a run to save and stop."""
    (work_dir / _FILE).touch()


def hear() -> None:
    """Let the training in another thread of this process know of its next SIGTERM; one more does what it did before.

    To be called in the main thread. The wish dies with the process: Ray ends the workers of a broken group by SIGTERM
    too, and the next group shall not stop for that.
    """
    _heard.clear()
    before = signal.getsignal(signal.SIGTERM)

    def handed(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, before)
        _heard.set()

    signal.signal(signal.SIGTERM, handed)


@contextmanager
def asking_by_file(work_dir: Path) -> Iterator[None]:
    """Hand a SIGTERM to the workers of a run by the file, for as long as the block lasts."""
    (work_dir / _FILE).unlink(missing_ok=True)
    if not _signals_reach_us():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: ask(work_dir))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        (work_dir / _FILE).unlink(missing_ok=True)


def _signals_reach_us() -> bool:
    return threading.current_thread() is threading.main_thread()
