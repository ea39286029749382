"""Units of work: done once under a key of their content, committed as they finish, dropped when nobody wants them.

A unit writes one Parquet file a table. A run that is killed at any time has lost at most the units under way.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.decode import take_decoded
from data_prep.run import Failure, Runner
from data_prep.sources import Source
from data_prep.tables import SCHEMAS, Part, Tables, write_rows

__all__ = ["Progress", "Unit", "Workshop", "dead_row", "made_of", "write"]

_COMMIT_EVERY_UNITS = 16
_MADE = "vidgen.made"
Progress = Callable[[int, int], None]


class Unit(NamedTuple):
    """A source (or some spans of one) to work on, and the key that its result is kept under.

    Attributes:
        made: What the key was made of, as JSON; it is kept with the result, to say later why that is stale.
        tries: How often it was tried under other keys, and failed.
        replaces: Units whose rows may be used again; they leave the tables in the transaction that brings this one.

    """

    key: str
    source: Source
    spans: tuple[dict[str, Any], ...] = ()
    made: str = ""
    tries: int = 0
    replaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workshop:
    """What every pass over units needs.

    Attributes:
        tables: Where results go.
        runner: Who does the work.
        progress: Told (done, total) after each unit.
        deadline_s: A unit that takes longer is given up.
        decoded: Frames decoded so far, by the table that was being filled.
        looks: Whether it only looks at what would be done, and changes nothing.

    """

    tables: Tables
    runner: Runner
    progress: Progress
    deadline_s: float
    decoded: Counter[str] = field(default_factory=Counter)
    looks: bool = False

    def run(
        self,
        units: Sequence[Unit],
        work: Callable[[Unit], dict[str, Part]],
        names: Sequence[str],
        *,
        adopt: bool = False,
    ) -> None:
        """Do the units that the last of the tables does not have; drop what no unit wants first.

        The last table is committed last: a unit that is in it is in all of them. With `adopt`, a unit whose files a
        killed run wrote and did not commit is not done again: its key says what is in them.
        """
        wanted = {unit.key for unit in units}
        have = self.tables.committed(names[-1])
        todo = [unit for unit in units if unit.key not in have]
        kept = (wanted & have).union(*(unit.replaces for unit in todo))
        for name in reversed(names):
            self.tables.commit(name, _schema(name), [], drop=self.tables.committed(name) - kept)
        finished = [(unit, parts) for unit in todo if adopt and (parts := self.written(unit, names))]
        there = {unit.key for unit, _ in finished}
        todo = [unit for unit in todo if unit.key not in there]
        before = len(have & wanted) + len(there)
        for done, (unit, result) in enumerate(self.runner.map(work, todo, deadline_s=self.deadline_s), start=1):
            if isinstance(result, Failure):
                rows = {"dead": [dead_row(unit.source, result.reason, result.message, result.attempts + unit.tries)]}
                result = {
                    name: write(self.tables, name, unit.key, rows.get(name, []), made=unit.made) for name in names
                }
            self.decoded[names[-1]] += sum(part.decoded for part in result.values())
            finished.append((unit, result))
            if len(finished) >= _COMMIT_EVERY_UNITS:
                self._commit(names, finished)
                finished = []
            self.progress(before + done, len(units))
        self._commit(names, finished)

    def written(self, unit: Unit, names: Sequence[str]) -> dict[str, Part]:
        """The unit's files, each of which is whole or not there; {} unless all are there."""
        files = {name: self.tables.part_file(name, unit.key) for name in names}
        if not all(file.exists() for file in files.values()):
            return {}
        return {name: Part(unit.key, file, pq.read_metadata(file).num_rows) for name, file in files.items()}

    def _commit(self, names: Sequence[str], finished: Sequence[tuple[Unit, dict[str, Part]]]) -> None:
        replaced = {key for unit, _ in finished for key in unit.replaces}
        for name in names:
            self.tables.commit(name, _schema(name), [parts[name] for _, parts in finished], drop=replaced)


def write(tables: Tables, name: str, unit: str, rows: Iterable[Mapping[str, Any]], *, made: str = "") -> Part:
    """Write a unit's rows as its file, with what its key was made of; it carries the frames decoded since the last."""
    file, schema = tables.part_file(name, unit), _schema(name)
    count = write_rows(file, schema.with_metadata({_MADE: made}) if made else schema, rows)
    return Part(unit, file, count, take_decoded())


def made_of(file: Path) -> dict[str, Any]:
    """What the key of the unit in a file was made of; empty where the file does not say."""
    return json.loads((pq.read_schema(file).metadata or {}).get(_MADE.encode(), b"{}"))


def dead_row(source: Source, reason: str, message: str, attempts: int) -> dict[str, Any]:
    """A source that cannot be used, as a row of `dead` and `rejects`."""
    return {"level": "source", "source_id": source.source_id, "clip_id": "", "uri": source.uri, "stage": "analyze",
            "reason": reason, "value": None, "threshold": None, "message": message, "attempts": attempts}  # fmt: skip


def _schema(name: str) -> pa.Schema:
    return SCHEMAS["rejects" if name == "dead" else name]
