"""Takedown: everything of a source leaves the tables and the disk, and no later run takes it in again.

The source is remembered first, so that a takedown that was stopped goes on where it was, and a run in between skips it.
Earlier versions of the tables lose it too, since their files are deleted.
"""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_prep.tables import SCHEMAS, Part, Tables
from data_prep.units import made_of
from vidgen_core import digests
from vidgen_core.frozen import Frozen
from vidgen_core.training.columns import WRITING

__all__ = ["Removed", "contents", "forget"]

_DERIVED = ("captions", "rejects", "retries", "duplicate_groups", "rights")
_MEMORY = "forgotten"


class Removed(Frozen):
    """What a takedown removed.

    Args:
        rows: Table -> rows that the current version lost.
        files: Parquet files deleted, of this and of earlier versions.
        file_bytes: Their size.

    """

    rows: dict[str, int]
    files: int
    file_bytes: int


def contents(tables: Tables, source_id: str) -> dict[str, int]:
    """Table -> how many rows of the current version are of a source."""
    clips, captions = _clips(tables, source_id), _own_captions(tables, source_id)
    counts = {}
    for name in tables.names():
        count = 0
        for file in tables.listed(name):
            with tables.opened(file) as opened:
                count += int(_rows_of(opened, source_id, clips, captions).sum())
        if count and name != _MEMORY:
            counts[name] = count
    return counts


def forget(tables: Tables, source_id: str, uri: str, releases: Sequence[str]) -> Removed:
    """Take a source down.

    Args:
        tables: Where it is; nobody else may write to them meanwhile.
        source_id: Its id.
        uri: The name of its file, for the record.
        releases: Digests of the releases that saw it, for the record.

    """
    counts = contents(tables, source_id)
    clips, captions = _clips(tables, source_id), _own_captions(tables, source_id)
    _remember(tables, source_id, uri, releases)
    files = size = 0
    # By name, so `spans` comes last: from it a takedown that was stopped knows the clips and captions again.
    for name in tables.names():
        if name == _MEMORY:
            continue
        for file in _take_out(tables, name, source_id, clips, captions):
            files, size = files + 1, size + tables.size_bytes(file)
            tables.delete(file)
    return Removed(rows=counts, files=files, file_bytes=size)


def _remember(tables: Tables, source_id: str, uri: str, releases: Sequence[str]) -> None:
    rows = {row["source_id"]: row for row in tables.read(_MEMORY).to_pylist()}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    before = rows.get(source_id, {"day": today, "releases": "", "units": ""})
    seen = {*before["releases"].split(), *releases}
    # An old release names files that will be gone: with their names it can still be told whose they were.
    units = {*before["units"].split(), *(file.stem.removeprefix("part-") for file in _holding(tables, source_id))}
    rows[source_id] = {"source_id": source_id, "uri": uri, "day": before["day"],
                       "releases": " ".join(sorted(seen)), "units": " ".join(sorted(units))}  # fmt: skip
    tables.replace(_MEMORY, pa.Table.from_pylist(list(rows.values()), SCHEMAS[_MEMORY]))


def _take_out(tables: Tables, name: str, source_id: str, clips: set[str], captions: set[str]) -> list[Path]:
    """Commit a table without the source; its files, of any version, that are to be deleted."""
    current, doomed, parts, drop = set(tables.listed(name)), [], [], []
    for file in tables.stored(name):
        if file.suffix == ".tmp":
            doomed.append(file)
            continue
        with tables.opened(file) as opened:
            mask = _rows_of(opened, source_id, clips, captions)
            if not mask.any() and made_of(tables, file).get("source_id") != source_id:
                continue
            doomed.append(file)
            if file in current:
                drop.append(file.stem.removeprefix("part-"))
                if not mask.all() and name not in _DERIVED:
                    parts.append(_without(tables, name, drop[-1], opened.read().filter(pa.array(~mask)), source_id))
    if drop and name in _DERIVED:
        rows = tables.read(name)
        tables.replace(name, rows.filter(pc.not_equal(rows["source_id"], source_id)))
    elif drop:
        tables.commit(name, None, parts, drop=drop)
    return doomed


def _without(tables: Tables, name: str, unit: str, rest: pa.Table, source_id: str) -> Part:
    """The rest of a file that several sources share, laid out as it was."""
    key = digests.of_value([unit, "without", source_id], 32)
    tensors = any(pa.types.is_fixed_size_binary(field.type) for field in rest.schema)
    options: dict[str, Any] = dict(WRITING) if tensors else {}
    return Part(key, tables.write(name, key, rest, **options), len(rest))


def _rows_of(file: pq.ParquetFile, source_id: str, clips: set[str], captions: set[str]) -> np.ndarray:
    """Which rows of a file are the source's: by its id, by a clip's, or by a caption that nobody else has [rows]."""
    names = file.schema_arrow.names
    if {"first", "second"} <= set(names):
        pairs = file.read(columns=["first", "second"])
        return np.array([source_id in pair for pair in zip(*pairs.to_pydict().values(), strict=True)], bool)
    for column, values in (("source_id", {source_id}), ("clip_id", clips), ("caption", captions)):
        if column in names:
            found = pc.is_in(file.read(columns=[column])[column], pa.array(sorted(values), pa.string()))
            return found.to_numpy().astype(bool)
    return np.zeros(file.metadata.num_rows, bool)


def _holding(tables: Tables, source_id: str) -> list[Path]:
    """Files of `clips`, of any version, with rows of the source."""
    holding = []
    for file in _parquet(tables, "clips"):
        with tables.opened(file) as opened:
            if _rows_of(opened, source_id, set(), set()).any():
                holding.append(file)
    return holding


def _parquet(tables: Tables, name: str) -> list[Path]:
    return [file for file in tables.stored(name) if file.suffix == ".parquet"]


def _clips(tables: Tables, source_id: str) -> set[str]:
    """Ids of all clips that the source ever had, as far as files tell."""
    found: set[str] = set()
    for name in ("spans", "clips", "captions"):
        for file in _parquet(tables, name):
            with tables.opened(file) as opened:
                rows = opened.read(columns=["clip_id", "source_id"])
            found |= set(rows.filter(pc.equal(rows["source_id"], source_id))["clip_id"].to_pylist())
    return found


def _own_captions(tables: Tables, source_id: str) -> set[str]:
    """Captions of the source that no other source has."""
    own: set[str] = set()
    others: set[str] = set()
    for name in ("captions", "spans", "generated_captions"):
        rows = tables.read(name, ["source_id", "caption"])
        mine = pc.equal(rows["source_id"], source_id)
        own |= set(rows.filter(mine)["caption"].to_pylist())
        others |= set(rows.filter(pc.invert(mine))["caption"].to_pylist())
    return own - others - {"", None}
