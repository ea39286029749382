"""Rows by what they are of; of a table, as dicts made when somebody looks at them.

A million dicts are gigabytes, their table is not.
"""

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, overload

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Rows", "by_source", "grouped"]


class Rows(Sequence[dict[str, Any]]):
    """A stretch of a table's rows; a process that it is sent to gets these rows, as a tuple.

    Args:
        table: All rows.
        start, stop: Which of them.

    """

    def __init__(self, table: pa.Table, start: int, stop: int) -> None:
        self._table, self._start, self._stop = table, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._table.slice(self._start, len(self)).to_pylist())

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[dict[str, Any], ...]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | tuple[dict[str, Any], ...]:
        return tuple(self)[place]

    def __reduce__(self) -> tuple[object, ...]:
        return tuple, (tuple(self),)


def grouped(table: pa.Table, by: str, order: str) -> dict[str, Rows]:
    """Value of a column -> its rows, both in order."""
    ordered = table.sort_by([(by, "ascending"), (order, "ascending")]).combine_chunks()
    runs = pc.run_end_encode(ordered[by].combine_chunks())
    stops = runs.run_ends.to_pylist()
    starts = [0, *stops][: len(stops)]
    return {
        value: Rows(ordered, start, stop)
        for value, start, stop in zip(runs.values.to_pylist(), starts, stops, strict=True)
    }


def by_source(spans: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Source -> its spans, both in order, where spans are no table any more."""
    found: dict[str, list[dict[str, Any]]] = {}
    for span in sorted(spans, key=itemgetter("source_id", "clip_id")):
        found.setdefault(span["source_id"], []).append(span)
    return found
