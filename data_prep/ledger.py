"""Answers that cost money, kept row by row: committed in small groups as they come, found again by their key.

Rows are only added; of rows with one key the better one counts, so a run that is killed anywhere leaves a right table.
`settle` takes away what was superseded and folds many small files into few.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_prep.tables import SCHEMAS, Part, Tables
from data_prep.units import write
from vidgen_core import digests

__all__ = ["Ledger", "Row"]

Row = dict[str, Any]
_GROUP_ROWS, _GROUP_S = 256, 10.0
_SMALL_ROWS, _MOST_SMALL = 128, 16
_FOLDED_ROWS = 4096


class Ledger:
    """One such table; a file is read once by one ledger.

    Args:
        tables: Where it lies.
        name: Its schema has a column `key`.
        worth: Of two rows with one key the one that is worth more counts.

    """

    def __init__(self, tables: Tables, name: str, worth: Callable[[Row], Any]) -> None:
        self._tables, self._name, self._worth = tables, name, worth
        self._waiting: list[Row] = []
        self._since_s = time.monotonic()
        self._read: dict[Path, list[Row] | None] = {}

    def rows(self) -> dict[str, Row]:
        """What counts, by key."""
        return self._best(self._files(), lambda row: True)

    def add(self, rows: Iterable[Row]) -> None:
        """Keep rows; they are committed when there are many, or the first has waited for seconds."""
        self._waiting += rows
        if len(self._waiting) >= _GROUP_ROWS or time.monotonic() - self._since_s >= _GROUP_S:
            self.flush()

    def flush(self) -> None:
        """Commit what was added."""
        if self._waiting:
            self._tables.commit(self._name, SCHEMAS[self._name], [self._part(self._waiting)])
        self._waiting, self._since_s = [], time.monotonic()

    def settle(self, keep: Callable[[Row], bool]) -> None:
        """Take away superseded rows and those that nobody keeps, and fold small files; all in one transaction."""
        files = self._files()
        counts = {id(row) for row in self._best(files, keep).values()}
        small = [file for file, rows in files.items() if len(rows) < _SMALL_ROWS]
        stale = {file for file, rows in files.items() if any(id(row) not in counts for row in rows)}
        touched = stale | set(small if len(small) > _MOST_SMALL else ())
        # Files of another release of the program hold none of our rows.
        touched |= set(self._tables.files(self._name)) - files.keys()
        if touched:
            kept = [row for file in sorted(touched & files.keys()) for row in files[file] if id(row) in counts]
            parts = [self._part(kept[at : at + _FOLDED_ROWS]) for at in range(0, len(kept), _FOLDED_ROWS)]
            drop = [file.stem.removeprefix("part-") for file in touched]
            self._tables.commit(self._name, SCHEMAS[self._name], parts, drop=drop)

    def _best(self, files: Mapping[Path, list[Row]], keep: Callable[[Row], bool]) -> dict[str, Row]:
        best: dict[str, Row] = {}
        for row in chain.from_iterable(files.values()):
            if keep(row) and (row["key"] not in best or self._worth(row) > self._worth(best[row["key"]])):
                best[row["key"]] = row
        return best

    def _files(self) -> dict[Path, list[Row]]:
        # A file is named after its rows, so what was read of it stands.
        read = self._read
        self._read = {
            file: read[file] if file in read else self._rows_of(file) for file in self._tables.files(self._name)
        }
        return {file: rows for file, rows in self._read.items() if rows is not None}

    def _rows_of(self, file: Path) -> list[Row] | None:
        with pq.ParquetFile(file) as opened:
            same = opened.schema_arrow.names == SCHEMAS[self._name].names
            return opened.read().to_pylist() if same else None

    def _part(self, rows: Sequence[Row]) -> Part:
        return write(self._tables, self._name, digests.of_value(list(rows), 32), list(rows))
