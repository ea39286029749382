"""Digests of rows, which do not depend on the order of columns, nor on files."""

import hashlib
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["hashes_in", "hashes_of", "keep", "kept", "of_table"]

_HASH_BYTES = hashlib.sha256().digest_size
_ROWS_AT_ONCE = 1024


def hashes_of(table: pa.Table) -> list[bytes]:
    """One hash a row."""
    columns = sorted(table.column_names)
    values = [table[column].to_pylist() for column in columns]
    return [hashlib.sha256(repr(row).encode()).digest() for row in zip(*values, strict=True)]


def of_table(table: pa.Table) -> str:
    """One digest of all rows in their order."""
    return hashlib.sha256(b"".join(hashes_of(table))).hexdigest()


def hashes_in(file: pq.ParquetFile) -> list[bytes]:
    """One hash a row; rows are read a batch at a time, so memory stays bounded."""
    batches = file.iter_batches(batch_size=_ROWS_AT_ONCE)
    return [hashed for batch in batches for hashed in hashes_of(pa.table(batch))]


def kept(file: Path) -> list[bytes] | None:
    """Hashes that `keep` has left."""
    try:
        stored = file.read_bytes()
    except FileNotFoundError:
        return None
    return [stored[at : at + _HASH_BYTES] for at in range(0, len(stored), _HASH_BYTES)]


def keep(file: Path, hashes: list[bytes]) -> None:
    """Leave hashes in a file, which is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_bytes(b"".join(hashes))
    fresh.replace(file)
