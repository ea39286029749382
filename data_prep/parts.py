"""Writing the Parquet files of tables: each is there whole or not at all, also after a power cut.

A file keeps the digests of its rows in its footer, so that a release need not read them again.
"""

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep import row_digests

__all__ = ["whole", "write_part", "write_rows"]

_ROW_GROUP_BYTES = 2**24  # of media, whose rows are large


def write_part(file: Path, table: pa.Table, *, row_group_size: int | None = None, **options: object) -> None:
    """Write a table."""
    with whole(file) as stream, pq.ParquetWriter(stream, table.schema, **options) as writer:
        writer.write_table(table, row_group_size)
        if len(table) <= row_digests.KEPT_ROWS:
            writer.add_key_value_metadata(row_digests.told([row_digests.of_rows(table)]))


def write_rows(file: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as they come, of which only a few MB are held; how many there were."""
    hashed = []
    with whole(file) as stream, pq.ParquetWriter(stream, schema) as writer:
        for group in _row_groups(rows):
            table = pa.Table.from_pylist(group, schema)
            writer.write_table(table)
            hashed.append(row_digests.of_rows(table))
        writer.add_key_value_metadata(row_digests.told(hashed))
    return sum(map(len, hashed))


def _row_groups(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Rows by some MB of bytes; one empty group where there are none."""
    held, held_bytes, whole = list[Mapping[str, Any]](), 0, False
    for row in rows:
        held.append(row)
        held_bytes += sum(len(value) for value in row.values() if isinstance(value, bytes))
        if held_bytes > _ROW_GROUP_BYTES:
            yield held
            held, held_bytes, whole = [], 0, True
    if held or not whole:
        yield held


@contextmanager
def whole(file: Path) -> Iterator[BinaryIO]:
    """A stream into a file that is there once all is written."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # Not by the process's number: on several nodes two processes may have the same one.
    fresh = file.with_suffix(f".{secrets.token_hex(8)}.tmp")
    try:
        with fresh.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
