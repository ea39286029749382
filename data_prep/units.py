"""Units of work: done once under a key of their content, committed as they finish, dropped when nobody wants them.

A unit writes one Parquet file a table. A run that is killed at any time has lost at most the units under way.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from data_prep.decode import take_decoded
from data_prep.run import Failure, Runner
from data_prep.sources import Source
from data_prep.tables import SCHEMAS, Part, Tables, write_part

__all__ = ["Progress", "Unit", "Workshop", "dead_row", "write"]

_COMMIT_EVERY_UNITS = 16
Progress = Callable[[int, int], None]


class Unit(NamedTuple):
    """A source (or some spans of one) to work on, and the key that its result is kept under."""

    key: str
    source: Source
    spans: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Workshop:
    """What every pass over units needs.

    Attributes:
        tables: Where results go.
        runner: Who does the work.
        progress: Told (done, total) after each unit.
        deadline_s: A unit that takes longer is given up.
        decoded: Frames decoded so far, by the table that was being filled.

    """

    tables: Tables
    runner: Runner
    progress: Progress
    deadline_s: float
    decoded: Counter[str] = field(default_factory=Counter)

    def run(self, units: Sequence[Unit], work: Callable[[Unit], dict[str, Part]], names: Sequence[str]) -> None:
        """Do the units that the last of the tables does not have; drop what no unit wants first.

        The last table is committed last: a unit that is in it is in all of them.
        """
        wanted = {unit.key for unit in units}
        have = self.tables.committed(names[-1])
        for name in reversed(names):
            self.tables.commit(name, _schema(name), [], drop=self.tables.committed(name) - (wanted & have))
        todo = [unit for unit in units if unit.key not in have]
        finished: list[dict[str, Part]] = []
        for done, (unit, result) in enumerate(self.runner.map(work, todo, deadline_s=self.deadline_s), start=1):
            if isinstance(result, Failure):
                row = dead_row(unit.source, result.reason, result.message, result.attempts)
                result = {name: write(self.tables, name, unit.key, [row] if name == "dead" else []) for name in names}
            self.decoded[names[-1]] += sum(part.decoded for part in result.values())
            finished.append(result)
            if len(finished) >= _COMMIT_EVERY_UNITS:
                self._commit(names, finished)
                finished = []
            self.progress(len(have & wanted) + done, len(units))
        self._commit(names, finished)

    def _commit(self, names: Sequence[str], finished: Sequence[dict[str, Part]]) -> None:
        for name in names:
            self.tables.commit(name, _schema(name), [parts[name] for parts in finished])


def write(tables: Tables, name: str, unit: str, rows: list[dict[str, Any]]) -> Part:
    """Write a unit's rows of one table as its file; it carries the frames decoded since the last one."""
    file = tables.part_file(name, unit)
    write_part(file, pa.Table.from_pylist(rows, _schema(name)))
    return Part(unit, file, len(rows), take_decoded())


def dead_row(source: Source, reason: str, message: str, attempts: int) -> dict[str, Any]:
    """A source that cannot be used, as a row of `dead` and `rejects`."""
    return {"level": "source", "source_id": source.source_id, "clip_id": "", "uri": source.uri, "stage": "analyze",
            "reason": reason, "value": None, "threshold": None, "message": message, "attempts": attempts}  # fmt: skip


def _schema(name: str) -> pa.Schema:
    return SCHEMAS["rejects" if name == "dead" else name]
