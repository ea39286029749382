"""Digests of rows, columns at a time: a row's digest depends on its values, and on nothing else of where it lies.

A row is spelled as the numbers and lengths of its columns, in the order of their names, and then the bytes of its
texts; the spelling says where each value ends and which are null, so that no two rows share one.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

__all__ = ["KEPT_ROWS", "in_file", "of_bytes", "of_files", "of_parts", "of_rows", "of_table", "told"]

KEPT_ROWS = 2**16
"""Files with at most so many rows keep their rows' digests: the footer of a larger one would be large."""
_KEPT = b"vidgen.row_digests"

_DIGEST_BYTES = 32
_AT_ONCE_BYTES, _AT_ONCE_ROWS = 2**26, 2**16


def of_files(files: Sequence[Path]) -> str:
    """Digest of the rows of Parquet files, whatever their order and however they are spread over files.

    A file that was written with what `told` says is not read again beyond its footer.
    """
    parts = []
    for file in files:
        with pq.ParquetFile(file) as opened:
            parts.append(in_file(opened))
    return of_parts(parts)


def of_parts(parts: Sequence[NDArray[np.uint8]]) -> str:
    """Digest of rows whose own digests are given part by part [N, 32], in any order."""
    return _hex(_in_order(np.concatenate(parts)) if parts else of_bytes(b""))


def in_file(opened: pq.ParquetFile) -> NDArray[np.uint8]:
    """The digest of each row of a file [N, 32], from its footer where that tells them."""
    kept = (opened.metadata.metadata or {}).get(_KEPT)
    if kept is not None:
        return of_bytes(base64.b64decode(kept))
    parts = [_rows(batch) for batch in _batches(opened)]
    return np.concatenate(parts) if parts else of_bytes(b"")


def of_bytes(digests: bytes) -> NDArray[np.uint8]:
    """Digests that lie one after the other, [N, 32]."""
    return np.frombuffer(digests, np.uint8).reshape(-1, _DIGEST_BYTES)


def of_table(table: pa.Table) -> str:
    """Digest of the rows of a table in their order."""
    return _hex(of_rows(table))


def of_rows(table: pa.Table) -> NDArray[np.uint8]:
    """The digest of each row of a table [N, 32]."""
    parts = [_rows(batch) for batch in table.to_batches(_AT_ONCE_ROWS)]
    return np.concatenate(parts) if parts else of_bytes(b"")


def told(parts: Sequence[NDArray[np.uint8]]) -> dict[bytes, bytes]:
    """What a file keeps in its footer of the digests of its rows, part by part [N, 32]; nothing of too many rows."""
    if not parts or sum(map(len, parts)) > KEPT_ROWS:
        return {}
    return {_KEPT: base64.b64encode(np.concatenate(parts).tobytes())}


def _hex(digests: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(digests).data).hexdigest()


def _in_order(digests: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Digests [N, 32] sorted; the first eight bytes nearly always tell."""
    words = digests.view(">u8")
    # In the machine's own order of bytes, which sorts five times faster.
    first = words[:, 0].astype(np.uint64)
    order = np.argsort(first)
    if (np.diff(first[order]) == 0).any():
        order = np.lexsort(words.T[::-1])
    return digests.take(order, axis=0)


def _batches(opened: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """The rows of a file, as many at a time as fit into some memory."""
    groups = [opened.metadata.row_group(number) for number in range(opened.metadata.num_row_groups)]
    row_bytes = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=1)
    rows = int(np.clip(_AT_ONCE_BYTES // max(1, row_bytes), 1, _AT_ONCE_ROWS))
    # Threads cost more than they bring for the many small files of units.
    yield from opened.iter_batches(rows, use_threads=False)


def _rows(batch: pa.RecordBatch) -> NDArray[np.uint8]:
    """The digest of each row [N, 32]."""
    numbers: list[NDArray[np.uint8]] = []
    texts: list[pa.Array] = []
    header = hashlib.sha256()
    for name in sorted(batch.schema.names):
        column = batch.column(name)
        numbers.append(np.asarray(column.is_valid(), dtype=np.uint8)[:, None])
        fixed, text = _parts(column)
        header.update(f"{name}:{'text' if text is not None else fixed.shape[1]};".encode())
        numbers.append(fixed)
        texts += [] if text is None else [text]
    count = batch.num_rows
    numbers.append(np.tile(np.frombuffer(header.digest(), np.uint8), (count, 1)))
    lines = np.concatenate(numbers, axis=1)
    width = pa.binary(lines.shape[1])
    head = pa.Array.from_buffers(width, count, [None, pa.py_buffer(lines)]).cast(pa.large_binary())
    spelled = pc.binary_join_element_wise(head, *texts, pa.scalar(b"", pa.large_binary())) if texts else head
    ends = np.frombuffer(spelled.buffers()[1], np.int64, count + 1, 8 * spelled.offset).tolist()
    data = memoryview(spelled.buffers()[2] or b"")
    return of_bytes(b"".join(_each(data, ends)))


def _each(data: memoryview, ends: list[int]) -> Iterable[bytes]:
    sha256 = hashlib.sha256
    return [sha256(data[start:stop]).digest() for start, stop in zip(ends, ends[1:], strict=False)]


def _parts(column: pa.Array) -> tuple[NDArray[np.uint8], pa.Array | None]:
    """A column as bytes of one length [N, bytes], and as texts, whose lengths those are; nulls are zero or empty."""
    kind = column.type
    if pa.types.is_fixed_size_binary(kind):
        filled = column.cast(pa.binary(), safe=True)
        return _texts(filled)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return _as_bytes(column.cast(pa.int64()).fill_null(0), np.int64), None
    if pa.types.is_floating(kind):
        return _as_bytes(column.cast(pa.float64()).fill_null(0.0), np.float64), None
    if pa.types.is_null(kind):
        return np.zeros((len(column), 0), np.uint8), None
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind):
        return _texts(column)
    return _texts(pa.array([None if value is None else repr(value) for value in column.to_pylist()], pa.string()))


def _texts(column: pa.Array) -> tuple[NDArray[np.uint8], pa.Array]:
    filled = column.cast(pa.large_binary()).fill_null(b"")
    return _as_bytes(pc.binary_length(filled), np.int64), filled


def _as_bytes(values: pa.Array, kind: type) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values.to_numpy(zero_copy_only=False), kind).view(np.uint8).reshape(len(values), -1)
