"""Delta tables of Parquet files: who was committed is what the table's log says, and nothing else remembers it.

A unit of work (a source, a batch of clips) writes one Parquet file a table, named after the unit; the driver adds the
files of finished units in one transaction. A killed run leaves at most files that no log names, which the next run
writes again with the same bytes.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from data_prep import row_digests, sql
from data_prep.parts import write_part, write_rows
from data_prep.shelf import WHOLE_BYTES, Folder, Mirror
from data_prep.storage import Place
from vidgen_core import digests
from vidgen_core.frozen import Frozen

__all__ = ["SCHEMAS", "Part", "Release", "TableState", "Tables"]

# A release pins versions, and a version is read from its log: Delta would forget logs after a month.
_CONFIGURATION = {"delta.enableExpiredLogCleanup": "false"}
# The view of `sources` without what `rights` says of them.
_ALONE = "sources_alone"
_SPAN_KEY = [("clip_id", pa.string()), ("source_id", pa.string())]
# Null where nothing was measured; scores by models are in `scores`.
_SCORES = ("blockiness", "noise", "flow_px_s", "camera_px_s", "object_px_s", "text_area")
_CAPTION = [("caption", pa.string()), ("origin", pa.string()), ("model", pa.string()), ("prompt_digest", pa.string()),
            ("status", pa.string())]  # fmt: skip
SCHEMAS: Mapping[str, pa.Schema] = {
    "sources": pa.schema(
        [("source_id", pa.string()), ("uri", pa.string()), ("bytes", pa.int64()), ("container", pa.string()),
         ("codec", pa.string()), ("pix_fmt", pa.string()), ("width", pa.int32()), ("height", pa.int32()),
         ("rotation", pa.int32()), ("sar", pa.string()), ("time_base", pa.string()), ("frame_rate", pa.string()),
         ("variable_rate", pa.bool_()), ("frames", pa.int64()), ("duration_s", pa.float64()),
         ("bad_packets", pa.int64()), ("decoded_frames", pa.int64()), ("shots", pa.int32())]
    ),
    "spans": pa.schema(
        [*_SPAN_KEY, ("uri", pa.string()), ("shot", pa.int32()), ("shot_start_pts", pa.int64()),
         ("shot_stop_pts", pa.int64()), ("start_s", pa.float64()), ("stop_s", pa.float64()),
         ("start_pts", pa.int64()), ("stop_pts", pa.int64()), ("time_base", pa.string()),
         ("distinct_frames", pa.int32()), ("crop_x", pa.int32()), ("crop_y", pa.int32()), ("crop_w", pa.int32()),
         ("crop_h", pa.int32()), ("motion", pa.float64()), ("brightness", pa.float64()), ("sharpness", pa.float64()),
         ("keep_area", pa.float64()), *((name, pa.float64()) for name in _SCORES), ("caption", pa.string()),
         ("caption_origin", pa.string())]
    ),
    "fingerprints": pa.schema(
        [("source_id", pa.string()), ("picture_share", pa.float64()), ("samples", pa.binary())]
    ),
    "matches": pa.schema(
        [("first", pa.string()), ("second", pa.string()), ("start_s", pa.float64()), ("stop_s", pa.float64()),
         ("offset_s", pa.float64()), ("mirrored", pa.bool_()), ("share", pa.float64()),
         ("similarity", pa.float64()), ("change_similarity", pa.float64())]
    ),
    "picture_embeddings": pa.schema([*_SPAN_KEY, ("embedding", pa.binary())]),
    "duplicate_groups": pa.schema(
        [("group", pa.string()), ("place", pa.int32()), ("source_id", pa.string()), ("uri", pa.string()),
         ("split", pa.string())]
    ),
    "clips": pa.schema(
        [*_SPAN_KEY, ("split", pa.string()), ("frames", pa.int32()), ("height", pa.int32()), ("width", pa.int32()),
         ("frame_rate", pa.string()), ("media", pa.binary()), ("media_sha256", pa.string()),
         ("media_key", pa.string())]
    ),
    "audio": pa.schema(
        [*_SPAN_KEY, ("audio", pa.binary()), ("audio_sha256", pa.string()), ("sample_rate", pa.int32()),
         ("channels", pa.int32()), ("samples", pa.int64())]
    ),
    "captions": pa.schema(
        [*_SPAN_KEY, *_CAPTION, ("rank", pa.int32()), ("split", pa.string())]
    ),
    "generated_captions": pa.schema(
        [*_SPAN_KEY, *_CAPTION, ("key", pa.string()), ("batch", pa.string()), ("message", pa.string()),
         ("attempts", pa.int32()), ("echoed", pa.bool_()), ("wrong_ids", pa.int32())]
    ),
    "caption_checks": pa.schema(
        [*_SPAN_KEY, ("key", pa.string()), ("batch", pa.string()), ("caption", pa.string()), ("rival", pa.string()),
         ("fits", pa.bool_())]
    ),
    "scores": pa.schema([*_SPAN_KEY, ("scorer", pa.string()), ("score", pa.string()), ("value", pa.float64())]),
    "objects": pa.schema(
        [("key", pa.string()), ("source_id", pa.string()), ("place", pa.string()), ("uri", pa.string()),
         ("bytes", pa.int64()), ("stamp", pa.string())]
    ),
    "caption_scores": pa.schema(
        [*_SPAN_KEY, ("scorer", pa.string()), ("score", pa.string()), ("value", pa.float64())]
    ),
    "rejects": pa.schema(
        [("level", pa.string()), ("source_id", pa.string()), ("clip_id", pa.string()), ("uri", pa.string()),
         ("stage", pa.string()), ("reason", pa.string()), ("value", pa.float64()), ("threshold", pa.float64()),
         ("message", pa.string()), ("attempts", pa.int32())]
    ),
    "retries": pa.schema([("source_id", pa.string()), ("stage", pa.string()), ("attempts", pa.int32())]),
    "rights": pa.schema(
        [("source_id", pa.string()), ("license", pa.string()), ("stated", pa.string()),
         ("license_origin", pa.string()), ("attribution", pa.string()), ("url", pa.string())]
    ),
    "forgotten": pa.schema(
        [("source_id", pa.string()), ("uri", pa.string()), ("day", pa.string()), ("releases", pa.string()),
         ("units", pa.string())]
    ),
}  # fmt: skip


class Part(NamedTuple):
    """One Parquet file that a task wrote for one unit of work, and how many frames were decoded for it."""

    unit: str
    file: Path
    rows: int
    decoded: int = 0


class TableState(Frozen):
    """A table as a release pins it."""

    version: int
    rows: int
    digest: str


class Release(Frozen):
    """A set of table versions with one digest, which depends on the contents of those that make the data alone."""

    tables: dict[str, TableState]
    digest: str


class Tables:
    """The tables below one folder, or at a place elsewhere; a table's name may contain slashes.

    Args:
        root: The folder; made when the first table is. For a place it has copies of files that were written or read.
        place: Where the tables are, such as s3://bucket/tables.

    """

    def __init__(self, root: Path, place: Place | None = None) -> None:
        self.root, self.place = root, place
        self._shelf = Folder(root) if place is None else Mirror(root, place)
        # Elsewhere every look at a log costs requests, so what was seen stands until a commit of ours.
        self._seen: dict[str, DeltaTable | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_seen": {}}

    def exists(self, name: str) -> bool:
        """True once something was committed to it."""
        if name in self._seen:
            return self._seen[name] is not None
        uri, options = self._shelf.delta(name)
        with self._shelf.errors():
            there = bool(DeltaTable.is_deltatable(uri, options))
        if not there and self.place is not None:
            self._seen[name] = None
        return there

    def part_file(self, name: str, unit: str) -> Path:
        """Where a unit's file of a table belongs on this machine; `write` puts it there, and `files` fetches it."""
        return self.root / name / f"part-{unit}.parquet"

    def committed(self, name: str) -> set[str]:
        """The units in the table."""
        return {file.stem.removeprefix("part-") for file in self.listed(name)}

    def names(self) -> list[str]:
        """Every table there is."""
        return self._shelf.names()

    def listed(self, name: str, version: int | None = None) -> dict[Path, int]:
        """Files of the current or an earlier version with their bytes, sorted; elsewhere, and maybe here."""
        if not self.exists(name):
            return {}
        with self._shelf.errors():
            added = pa.table(self._delta(name, version).get_add_actions(flatten=True)).select(["path", "size_bytes"])
        return {self.root / name / path: size for path, size in sorted(zip(*added.to_pydict().values(), strict=True))}

    def files(self, name: str, version: int | None = None) -> list[Path]:
        """Parquet files of the current or an earlier version, sorted; all of them are on this machine then."""
        return self._shelf.fetch(self.listed(name, version))

    def stored(self, name: str) -> list[Path]:
        """Files of any version, and what killed runs left of files; they may be elsewhere."""
        return self._shelf.stored(name)

    def there(self, file: Path) -> bool:
        """Whether a file of any version has not been deleted."""
        return self._shelf.there(file)

    def local(self, file: Path) -> Path:
        """A file of any version, on this machine then."""
        self._shelf.fetch({file: self._shelf.size_bytes(file)})
        return file

    def opened(self, file: Path) -> AbstractContextManager[pq.ParquetFile]:
        """A file of any version to read columns from, wherever it is."""
        return self._shelf.open(file)

    def size_bytes(self, file: Path) -> int:
        """Size of a file of any version."""
        return self._shelf.size_bytes(file)

    def delete(self, file: Path) -> None:
        """Remove a file that no current version has, for good."""
        self._shelf.delete(file)

    def expired(self, name: str, hours: int) -> list[Path]:
        """Files that left the current version so many hours ago, and as old ones that never were in any; sorted."""
        with self._shelf.errors():
            paths = self._delta(name).vacuum(hours, dry_run=True, enforce_retention_duration=False, full=True)
        return sorted({self.root / name / path for path in paths})

    def clear_unfinished(self, name: str = "") -> None:
        """Remove what killed tasks had begun to write, to one table or to any; nobody else may be writing."""
        for file in (self.root / name).rglob("*.tmp"):
            file.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove copies on this machine of files that are elsewhere, where no current version has them."""
        if self.place is not None:
            self._shelf.tidy({name: set(self.listed(name)) for name in self.names()})

    def version(self, name: str) -> int | None:
        """The current version, None before the first commit."""
        return self._delta(name).version() if self.exists(name) else None

    def holding(self, name: str, column: str, value: str) -> list[Path]:
        """Files of the current version that have a row with this value."""
        sizes = self.listed(name)
        here = self._shelf.fetch(sizes, most_bytes=WHOLE_BYTES)
        found = [file for file in sizes if file not in here and value in self._values(file, column)]
        if here:
            rows_here = sql.parquet(here, ", filename = true")
            asked = f"SELECT DISTINCT filename FROM {rows_here} WHERE {sql.identifier(column)} = ? ORDER BY 1"
            with duckdb.connect() as connection:
                rows = connection.execute(asked, [value]).fetchall()
            found += [Path(row[0]) for row in rows]
        return sorted(found)

    def write(self, name: str, unit: str, table: pa.Table, **options: Any) -> Path:
        """Write a unit's file; it is there whole or not at all."""
        file = self.part_file(name, unit)
        write_part(file, table, **options)
        self._shelf.keep(file)
        return file

    def write_rows(self, name: str, unit: str, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> Part:
        """Write a unit's file of rows as they come; it is there whole or not at all."""
        file = self.part_file(name, unit)
        count = write_rows(file, schema, rows)
        self._shelf.keep(file)
        return Part(unit, file, count)

    def commit(self, name: str, schema: pa.Schema | None, parts: Sequence[Part], *, drop: Iterable[str] = ()) -> None:
        """Add the files of finished units and remove those of stale ones, in one transaction.

        Units that are in the table already are left as they are, so a commit may be repeated; one that is both added
        and dropped stays. Without a schema the table, which must exist then, keeps its own.
        """
        have = self.committed(name)
        gone = sorted((set(drop) - {part.unit for part in parts}) & have)
        actions = [self._add(part) for part in parts if part.unit not in have]
        actions += [self._remove(name, unit) for unit in gone]
        with self._shelf.errors():
            if not self.exists(name):
                self._shelf.begin(name)
                uri, options = self._shelf.delta(name)
                declared, title = Schema.from_arrow(schema), name.replace("/", ".")
                create_table_with_add_actions(
                    uri, declared, actions, name=title, storage_options=options, configuration=_CONFIGURATION
                )
                self._seen.pop(name, None)
            elif actions:
                table = self._delta(name)
                declared = table.schema() if schema is None else Schema.from_arrow(schema)
                table.create_write_transaction(actions, "append", declared)
                table.update_incremental()
        self._shelf.discard([self.part_file(name, unit) for unit in gone])

    def replace(self, name: str, table: pa.Table) -> None:
        """Make `table` the whole content of a small derived table; equal content makes no new version."""
        ordered = table.sort_by([(column, "ascending") for column in _sortable(table.schema)])
        unit = row_digests.of_table(ordered)[:32]
        if self.committed(name) == {unit}:
            return
        file = self.write(name, unit, ordered)
        self.commit(name, table.schema, [Part(unit, file, len(ordered))], drop=self.committed(name) - {unit})

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of the current version, in the order of its files; empty when there is no such table yet."""
        sizes = self.listed(name)
        if not sizes:
            empty = SCHEMAS[name].empty_table()
            return empty.select(list(columns)) if columns else empty
        here = self._shelf.fetch(sizes, most_bytes=WHOLE_BYTES if columns else None)
        if len(here) == len(sizes) and (rows := sql.read_files(here, columns)) is not None:
            return rows
        units = [file.stem.removeprefix("part-") for file in sizes]
        with ThreadPoolExecutor(4) as threads:
            return pa.concat_tables(threads.map(lambda unit: self.part(name, unit, columns), units))

    def part(self, name: str, unit: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of one unit, also of one that has left the table, as long as its file is there."""
        with self.opened(self.part_file(name, unit)) as file:
            return file.read(columns=list(columns) if columns else None, use_threads=False)

    def query(self, asked: str) -> pa.Table:
        """DuckDB over the current files: each table is a view, a slash in its name an underscore. Reads only.

        Raises:
            VidgenError: It is no single question, or does not run.

        """
        with duckdb.connect() as connection:
            return sql.question(connection, asked, self._views(connection))

    def _views(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Make a view of every table, then close the door to all other files; the views' names."""
        made = []
        for name in self.names():
            sizes = self.listed(name)
            if not sizes:
                continue
            made.append(name.replace("/", "_"))
            view = _ALONE if name == "sources" else made[-1]
            if set(self._shelf.fetch(sizes, most_bytes=WHOLE_BYTES)) == set(sizes):
                rows = sql.parquet(list(sizes), ", union_by_name = true")
                connection.execute(f"CREATE VIEW {sql.identifier(view)} AS FROM {rows}")
            else:
                connection.register(view, self._shelf.dataset(list(sizes)))
        if "sources" in made:
            rights = "rights" if "rights" in made else ""
            sql.join(connection, "sources", _ALONE, rights, SCHEMAS["rights"].names)
        sql.close_the_door(connection, self.root)
        return made

    def digest(self, name: str) -> str:
        """Digest of the rows, whatever their order, files and versions."""
        return row_digests.of_parts([self._shelf.row_digests(file) for file in self.listed(name)])

    def release(self, names: Sequence[str], *, beside: Sequence[str] = ()) -> Release:
        """The named tables as they are now, those without a commit left out.

        Args:
            names: What the digest is of.
            beside: Pinned too, but no part of the digest: what is said of the data, and changes none of it.

        """
        states = {
            name: TableState(version=version, rows=self._rows(name), digest=self.digest(name))
            for name in (*names, *beside)
            if (version := self.version(name)) is not None
        }
        contents = {name: state.digest for name, state in states.items() if name not in beside}
        return Release(tables=states, digest=digests.of_value(contents))

    def _rows(self, name: str) -> int:
        with self._shelf.errors():
            added = pa.table(self._delta(name).get_add_actions(flatten=True))
        return sum(added["num_records"].to_pylist())

    def _values(self, file: Path, column: str) -> list[str]:
        with self.opened(file) as opened:
            return opened.read(columns=[column])[column].to_pylist()

    def _delta(self, name: str, version: int | None = None) -> DeltaTable:
        if version is None and (seen := self._seen.get(name)) is not None:
            return seen
        uri, options = self._shelf.delta(name)
        table = DeltaTable(uri, version=version, storage_options=options)
        if version is None and self.place is not None:
            self._seen[name] = table
        return table

    def _add(self, part: Part) -> AddAction:
        stats = json.dumps({"numRecords": part.rows})
        size = self._shelf.size_bytes(part.file)
        return AddAction(part.file.name, size, {}, int(time.time() * 1000), True, stats)

    def _remove(self, name: str, unit: str) -> RemoveAction:
        return RemoveAction(self.part_file(name, unit).name, True, int(time.time() * 1000))


def _sortable(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if not pa.types.is_binary(field.type)]
