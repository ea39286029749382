"""How often results are committed: seldom enough that committing stays a small share of the work.

A commit reads the table's log: milliseconds at first, and longer the more units there are.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Pace"]

_LEAST_UNITS = 16
_SHARE = 0.05


class Pace:
    """Of one pass over units."""

    def __init__(self) -> None:
        self._took_s, self._ended_s = 0.0, time.monotonic()

    def due(self, finished: int) -> bool:
        """Whether so many units that are not committed are enough, a twentieth of the time being for commits."""
        return finished >= _LEAST_UNITS and time.monotonic() - self._ended_s >= self._took_s / _SHARE

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Measures the commit inside it."""
        began = time.monotonic()
        yield
        self._ended_s = time.monotonic()
        self._took_s = self._ended_s - began
