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

from data_prep.captions import Sidecar
from data_prep.decode import take_decoded
from data_prep.pace import Pace
from data_prep.run import UNFETCHED, Failure, Runner
from data_prep.sources import Source
from data_prep.tables import SCHEMAS, Part, Tables
from vidgen_core import digests

__all__ = [
    "DIED",
    "FAILURES",
    "Progress",
    "Unit",
    "Workshop",
    "dead_row",
    "given_up",
    "key_of_try",
    "made_of",
    "tries",
    "write",
]

_MADE = "vidgen.made"
# Reasons of those whose process died.
DIED = frozenset({"crashed", "out_of_memory", "node_lost"})
# `failures/<stage>` has the sources that a stage other than the analysis, whose failures are in `dead`, lost to errors.
FAILURES = "failures/"
Progress = Callable[[int, int], None]


class Unit(NamedTuple):
    """A source (or some spans of one) to work on, and the key that its result is kept under.

    Attributes:
        made: What the key was made of, as JSON; it is kept with the result, to say later why that is stale.
        tries: How often it was tried under other keys, and failed.
        replaces: Units whose rows may be used again; they leave the tables in the transaction that brings this one.
        beside: Its captions, so that no process reads a list of a million again; None for timed ones, which are large.

    """

    key: str
    source: Source
    spans: Sequence[dict[str, Any]] = ()
    made: str = ""
    tries: int = 0
    replaces: tuple[str, ...] = ()
    beside: Sidecar | None = None


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
        work: Callable[[Unit], dict[str, Part] | Failure],
        names: Sequence[str],
        *,
        adopt: bool = False,
        rest: Callable[[Unit], Iterable[Mapping[str, Any]]] = lambda _: (),
    ) -> None:
        """Do the units that the last of the tables does not have; drop what no unit wants first.

        The last table is committed last: a unit that is in it is in all of them. With `adopt`, a unit whose files a
        killed run wrote and did not commit is not done again: its key says what is in them.

        Where the first table is `dead` or one of failures, it gets the sources whose processes died. They are not tried
        again under any key, until somebody asks for it.
        """
        wanted = {unit.key for unit in units}
        lost = given_up(self.tables, names[0])
        have = self.tables.committed(names[-1])
        todo = [unit for unit in units if unit.key not in have]
        kept = (wanted & have).union(*(unit.replaces for unit in todo))
        for name in reversed(names):
            self._change(name, [], self.tables.committed(name) - kept)
        there = self.written(todo, names) if adopt else {}
        for unit in todo:
            row = lost.get(unit.source.source_id, _NOT_LOST)
            if unit.key not in there and unit.tries < row["attempts"]:
                there[unit.key] = self._lost(unit, names, row | {"uri": unit.source.uri}, rest(unit))
        finished = [(unit, there[unit.key]) for unit in todo if unit.key in there]
        todo = [unit for unit in todo if unit.key not in there]
        before, pace = len(have & wanted) + len(there), Pace()
        for done, (unit, result) in enumerate(self.runner.map(work, todo, deadline_s=self.deadline_s), start=1):
            if isinstance(result, Failure) and result.reason == UNFETCHED and "dead" not in names:
                # Only the first pass says that a source is lost; the next run tries this one again.
                # Under another key, for it is not done.
                key = digests.of_value([unit.key, "rest"], 32)
                left = (
                    {names[-1]: write(self.tables, names[-1], key, rest(unit), made=unit.made)} if unit.replaces else {}
                )
                self._commit(names, [(unit, left)])
                continue
            if isinstance(result, Failure):
                stage = names[0].removeprefix(FAILURES) if names[0].startswith(FAILURES) else "analyze"
                attempts = result.attempts + unit.tries
                row = dead_row(unit.source, result.reason, result.message, attempts, stage)
                result = self._lost(unit, names, row, rest(unit))
            self.decoded[names[-1]] += sum(part.decoded for part in result.values())
            finished.append((unit, result))
            if pace.due(len(finished)):
                with pace.committing():
                    self._commit(names, finished)
                finished = []
            self.progress(before + done, len(units))
        self._commit(names, finished)

    def written(self, units: Sequence[Unit], names: Sequence[str]) -> dict[str, dict[str, Part]]:
        """The files of those units that have all of them, by their keys; each is whole or not there."""
        stored = {name: set(self.tables.stored(name)) for name in names} if units else {}
        found = {}
        for unit in units:
            files = {name: self.tables.part_file(name, unit.key) for name in names}
            if all(file in stored[name] for name, file in files.items()):
                found[unit.key] = {name: self._part(unit.key, file) for name, file in files.items()}
        return found

    def _part(self, key: str, file: Path) -> Part:
        with self.tables.opened(file) as opened:
            return Part(key, file, opened.metadata.num_rows)

    def _commit(self, names: Sequence[str], finished: Sequence[tuple[Unit, dict[str, Part]]]) -> None:
        gone = {key for unit, _ in finished for key in unit.replaces}
        for name in names:
            self._change(name, [parts[name] for _, parts in finished if name in parts], gone)

    def _change(self, name: str, parts: Sequence[Part], drop: set[str]) -> None:
        """Most homes have no failures, and need no tables of them."""
        if parts or not name.startswith(FAILURES) or self.tables.exists(name):
            self.tables.commit(name, _schema(name), parts, drop=drop)

    def _lost(
        self, unit: Unit, names: Sequence[str], row: dict[str, Any], rest: Iterable[Mapping[str, Any]]
    ) -> dict[str, Part]:
        """A unit's files without a result, with the row that says why and what it has all the same."""
        rows: dict[str, Iterable[Mapping[str, Any]]] = {names[-1]: rest}
        rows |= {names[0]: [row]} if _has_failures(names[0]) else {}
        return {name: write(self.tables, name, unit.key, rows.get(name, []), made=unit.made) for name in names}


def write(tables: Tables, name: str, unit: str, rows: Iterable[Mapping[str, Any]], *, made: str = "") -> Part:
    """Write a unit's rows as its file, with what its key was made of; it carries the frames decoded since the last."""
    schema = _schema(name)
    part = tables.write_rows(name, unit, schema.with_metadata({_MADE: made}) if made else schema, rows)
    return part._replace(decoded=take_decoded())


def made_of(tables: Tables, file: Path) -> dict[str, Any]:
    """What the key of the unit in a file was made of; empty where the file does not say."""
    with tables.opened(file) as opened:
        return json.loads((opened.schema_arrow.metadata or {}).get(_MADE.encode(), b"{}"))


def dead_row(source: Source, reason: str, message: str, attempts: int, stage: str = "analyze") -> dict[str, Any]:
    """A source that cannot be used, or not by a later stage, as a row of `dead`, `failures/<stage>` and `rejects`."""
    level = "source" if stage == "analyze" else "part"
    return {"level": level, "source_id": source.source_id, "clip_id": "", "uri": source.uri, "stage": stage,
            "reason": reason, "value": None, "threshold": None, "message": message, "attempts": attempts}  # fmt: skip


def given_up(tables: Tables, name: str) -> dict[str, dict[str, Any]]:
    """Source -> its row in `dead` or a table of failures, where its process died; {} for another table."""
    rows = tables.read(name).to_pylist() if _has_failures(name) and tables.files(name) else []
    return {row["source_id"]: row for row in rows if row["reason"] in DIED}


def key_of_try(key: str, tries: int) -> str:
    """A unit's key where a stage was tried on its source in vain, and asked to try again."""
    return digests.of_value([key, tries], 32) if tries else key


def tries(tables: Tables, stage: str) -> dict[str, int]:
    """Source -> how often a stage was tried on it before it was asked to try again."""
    rows = tables.read("retries").to_pylist()
    return {row["source_id"]: row["attempts"] for row in rows if row["stage"] == stage}


_NOT_LOST: dict[str, Any] = {"attempts": 0}


def _has_failures(name: str) -> bool:
    return name == "dead" or name.startswith(FAILURES)


def _schema(name: str) -> pa.Schema:
    return SCHEMAS["rejects" if _has_failures(name) else name]
