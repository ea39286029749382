"""Delta tables of Parquet files: who was committed is what the table's log says, and nothing else remembers it.

A unit of work (a source, a batch of clips) writes one Parquet file a table, named after the unit; the driver adds the
files of finished units in one transaction. A killed run leaves at most files that no log names, which the next run
writes again with the same bytes.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from vidgen_core import digests
from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen

__all__ = ["SCHEMAS", "Part", "Release", "TableState", "Tables", "ask", "write_part"]

# Kinds of statements that only read.
_QUESTIONS = ("SELECT", "EXPLAIN")
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
    "caption_scores": pa.schema(
        [*_SPAN_KEY, ("scorer", pa.string()), ("score", pa.string()), ("value", pa.float64())]
    ),
    "rejects": pa.schema(
        [("level", pa.string()), ("source_id", pa.string()), ("clip_id", pa.string()), ("uri", pa.string()),
         ("stage", pa.string()), ("reason", pa.string()), ("value", pa.float64()), ("threshold", pa.float64()),
         ("message", pa.string()), ("attempts", pa.int32())]
    ),
    "retries": pa.schema([("source_id", pa.string()), ("stage", pa.string()), ("attempts", pa.int32())]),
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
    """A set of table versions with one digest, which depends on their contents alone."""

    tables: dict[str, TableState]
    digest: str


def write_part(file: Path, table: pa.Table, **options: object) -> None:
    """Write a Parquet file so that it is there whole or not at all, also after a power cut."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        with fresh.open("wb") as stream:
            pq.write_table(table, stream, **options)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)


def ask(sql: str, **tables: pa.Table) -> pa.Table:
    """A SQL question over tables in memory, by their names."""
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        answer = connection.sql(sql)
        assert answer is not None, "not a question"
        return answer.to_arrow_table()


class Tables:
    """The tables below one folder; a table's name may contain slashes.

    Args:
        root: The folder; made when the first table is.

    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def exists(self, name: str) -> bool:
        """True once something was committed to it."""
        return DeltaTable.is_deltatable(str(self.root / name))

    def part_file(self, name: str, unit: str) -> Path:
        """Where a unit's file of a table belongs."""
        return self.root / name / f"part-{unit}.parquet"

    def committed(self, name: str) -> set[str]:
        """The units in the table."""
        return {file.stem.removeprefix("part-") for file in self.files(name)}

    def names(self) -> list[str]:
        """Every table there is."""
        return sorted(log.parent.relative_to(self.root).as_posix() for log in self.root.rglob("_delta_log"))

    def files(self, name: str, version: int | None = None) -> list[Path]:
        """Parquet files of the current or an earlier version, sorted."""
        if not self.exists(name):
            return []
        added = DeltaTable(str(self.root / name), version=version).get_add_actions(flatten=True)
        return sorted(self.root / name / path for path in pa.table(added)["path"].to_pylist())

    def version(self, name: str) -> int | None:
        """The current version, None before the first commit."""
        return self._delta(name).version() if self.exists(name) else None

    def holding(self, name: str, column: str, value: str) -> list[Path]:
        """Files of the current version that have a row with this value."""
        files = self.files(name)
        if not files:
            return []
        with duckdb.connect() as connection:
            question = f'SELECT DISTINCT filename FROM read_parquet(?, filename = true) WHERE "{column}" = ? ORDER BY 1'
            return [Path(row[0]) for row in connection.execute(question, [list(map(str, files)), value]).fetchall()]

    def commit(self, name: str, schema: pa.Schema | None, parts: Sequence[Part], *, drop: Iterable[str] = ()) -> None:
        """Add the files of finished units and remove those of stale ones, in one transaction.

        Units that are in the table already are left as they are, so a commit may be repeated. Without a schema the
        table, which must exist then, keeps its own.
        """
        have = self.committed(name)
        actions = [self._add(name, part) for part in parts if part.unit not in have]
        actions += [self._remove(name, unit) for unit in sorted(set(drop) & have)]
        if not self.exists(name):
            uri = str(self.root / name)
            (self.root / name).mkdir(parents=True, exist_ok=True)
            create_table_with_add_actions(uri, Schema.from_arrow(schema), actions, name=name.replace("/", "."))
        elif actions:
            table = self._delta(name)
            declared = table.schema() if schema is None else Schema.from_arrow(schema)
            table.create_write_transaction(actions, "append", declared)

    def replace(self, name: str, table: pa.Table) -> None:
        """Make `table` the whole content of a small derived table; equal content makes no new version."""
        ordered = table.sort_by([(column, "ascending") for column in _sortable(table.schema)])
        unit = _content_digest(ordered)[:32]
        if self.committed(name) == {unit}:
            return
        file = self.part_file(name, unit)
        write_part(file, ordered)
        self.commit(name, table.schema, [Part(unit, file, len(ordered))], drop=self.committed(name) - {unit})

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of the current version, in the order of its files; empty when there is no such table yet."""
        files = self.files(name)
        if not files:
            empty = SCHEMAS[name].empty_table()
            return empty.select(list(columns)) if columns else empty
        # Half the time of `pq.read_table`, which asks each file as if it were a data set.
        return pa.concat_tables([self.part(name, file.stem.removeprefix("part-"), columns) for file in files])

    def part(self, name: str, unit: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of one unit, also of one that has left the table, as long as its file is there."""
        with pq.ParquetFile(self.part_file(name, unit)) as file:
            # Threads cost more than they bring for the many small files of units.
            return file.read(columns=list(columns) if columns else None, use_threads=False)

    def query(self, sql: str) -> pa.Table:
        """DuckDB over the current files: each table is a view, a slash in its name an underscore. Reads only.

        Raises:
            VidgenError: It is no single question, or does not run.

        """
        with duckdb.connect() as connection:
            views = self._views(connection)
            try:
                kinds = [statement.type.name for statement in connection.extract_statements(sql)]
                if len(kinds) != 1 or kinds[0] not in _QUESTIONS:
                    raise VidgenError(
                        "A query is one question, which changes nothing", got=sql, allowed="SELECT, FROM, DESCRIBE"
                    )
                answer = connection.sql(sql)
                return pa.table({}) if answer is None else answer.to_arrow_table()
            except duckdb.Error as error:
                there = ", ".join(views) or "none yet, run vidgen prepare first"
                move = f"Tables: {there}"
                raise VidgenError(f"The query does not run: {_first_line(error)}", got=sql, move=move) from error

    def _views(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Make a view of every table, then close the door to all other files; the views' names."""
        made = []
        for name in self.names():
            files = [str(file) for file in self.files(name)]
            if files:
                made.append(name.replace("/", "_"))
                listed = ", ".join(map(_quoted, files))
                connection.execute(f'CREATE VIEW "{made[-1]}" AS FROM read_parquet([{listed}], union_by_name = true)')
        connection.execute(f"SET allowed_directories = [{_quoted(str(self.root))}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        return made

    def digest(self, name: str) -> str:
        """Digest of the rows, whatever their order, files and versions."""
        hashes = sorted(_row_hashes(self.files(name)))
        return hashlib.sha256(b"".join(hashes)).hexdigest()

    def release(self, names: Sequence[str]) -> Release:
        """The named tables as they are now, those without a commit left out."""
        states = {
            name: TableState(version=version, rows=self._rows(name), digest=self.digest(name))
            for name in names
            if (version := self.version(name)) is not None
        }
        return Release(tables=states, digest=digests.of_value({name: state.digest for name, state in states.items()}))

    def _rows(self, name: str) -> int:
        return sum(pq.read_metadata(file).num_rows for file in self.files(name))

    def _delta(self, name: str) -> DeltaTable:
        return DeltaTable(str(self.root / name))

    def _add(self, name: str, part: Part) -> AddAction:
        state = part.file.stat()
        stats = json.dumps({"numRecords": part.rows})
        return AddAction(part.file.name, state.st_size, {}, int(state.st_mtime * 1000), True, stats)

    def _remove(self, name: str, unit: str) -> RemoveAction:
        return RemoveAction(self.part_file(name, unit).name, True, int(time.time() * 1000))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _sortable(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if not pa.types.is_binary(field.type)]


def _content_digest(table: pa.Table) -> str:
    return hashlib.sha256(b"".join(_hashes_of_rows(table))).hexdigest()


def _row_hashes(files: Iterable[Path]) -> Iterator[bytes]:
    """One hash a row; a file's rows are read a batch at a time, so memory stays bounded."""
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=1024):
            yield from _hashes_of_rows(pa.table(batch))


def _hashes_of_rows(table: pa.Table) -> list[bytes]:
    columns = sorted(table.column_names)
    values = [table[column].to_pylist() for column in columns]
    return [hashlib.sha256(repr(row).encode()).digest() for row in zip(*values, strict=True)]
