"""Columns of Parquet files read value by value, in any order.

Tensors stand in Parquet as fixed-length bytes. Where a column chunk is plain, uncompressed, without nulls and of one
page, value i of n ends (n - 1 - i) widths before the chunk does, and is read from there into its place in a batch
without a decoder. Any other chunk is read by its row group.

Values are read by position and not through a memory map: a map takes a page fault every 64 KiB when pages are new to
it, reads a cold disk at two thirds of the speed, and a file that is cut short or a disk that fails ends the process
with a signal instead of a sentence.
"""

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vidgen_core.errors import VidgenError

__all__ = [
    "WRITING",
    "BytesColumn",
    "Stored",
    "TensorColumn",
    "damaged",
    "footer_of",
    "read_rows",
    "stored_in",
    "to_column",
    "to_table",
]

# How to write a column of tensors so that it can be read directly: plain, uncompressed, one page a row group.
WRITING: Mapping[str, Any] = {
    "compression": "NONE",
    "use_dictionary": False,
    "write_statistics": False,
    "row_group_size": 16,
    "data_page_size": 2**30,
}

# Files kept open; the usual limit of a process is 1024.
_FILES_OPEN = 512
_KEPT_BYTES = 256 * 2**20
_NOT_DIRECT = -1


class Stored(NamedTuple):
    """Shape and type of the tensors in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def width_bytes(self) -> int:
        """Bytes of one tensor."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


def stored_in(file: Path) -> Stored:
    """What a file's metadata entry `vidgen` says of its tensors.

    Raises:
        VidgenError: It says nothing, or is damaged.

    """
    entry = (footer_of(file).metadata or {}).get(b"vidgen")
    if entry is None:
        raise VidgenError(f"{file} does not say which tensors it holds", move="Remove its table and prepare it again")
    told = json.loads(entry)
    return Stored(tuple(told["shape"]), np.dtype(told["dtype"]))


def to_column(tensors: np.ndarray) -> pa.Array:
    """Tensors [n, ...] as n values of fixed-length bytes."""
    width = tensors[0].nbytes
    values = pa.py_buffer(np.ascontiguousarray(tensors))
    return pa.Array.from_buffers(pa.binary(width), len(tensors), [None, values])


def to_table(columns: Mapping[str, Any], stored: Stored) -> pa.Table:
    """A table whose columns of fixed-length bytes are tensors; they are never null, as reading directly needs."""
    table = pa.table(dict(columns))
    fields = [field.with_nullable(not pa.types.is_fixed_size_binary(field.type)) for field in table.schema]
    told = json.dumps({"shape": stored.shape, "dtype": stored.dtype.name})
    return table.cast(pa.schema(fields, {b"vidgen": told.encode()}))


def footer_of(file: Path) -> pq.FileMetaData:
    """A file's footer.

    Raises:
        VidgenError: The file is missing or damaged; the message names it.

    """
    try:
        return pq.read_metadata(file)
    except (OSError, pa.ArrowException) as error:
        raise damaged(file, str(error)) from error


def read_rows(file: Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of a file.

    Raises:
        VidgenError: The file is missing or damaged; the message names it.

    """
    try:
        with pq.ParquetFile(file) as opened:
            return opened.read(columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise damaged(file, str(error)) from error


def damaged(file: Path, why: str) -> VidgenError:
    """What to tell of a shard that cannot be read."""
    return VidgenError(
        f"The shard {file} is missing or damaged",
        got=why.splitlines()[0],
        move="If it holds latents or embeddings, run vidgen latents again: it makes damaged shards anew. "
        "If it holds clips, delete the folder of that table and run vidgen prepare again",
    )


class BytesColumn:
    """A column of bytes over many files; row groups are read whole and the latest are kept, up to 256 MiB.

    Several threads may read from it.

    Args:
        files: Parquet files in the order in which their rows count.
        column: Name of the column.
        width_bytes: Length of every value, or 0 when values differ in length.

    Raises:
        VidgenError: A file is missing or damaged, or has no such column.

    """

    def __init__(self, files: Sequence[Path], column: str, width_bytes: int = 0) -> None:
        self._files, self._column, self._width = tuple(files), column, width_bytes
        self._groups: list[tuple[int, int]] = []
        firsts, starts = [], [0]
        for file_number, file in enumerate(files):
            footer = footer_of(file)
            number = _number(file, footer, column)
            with file.open("rb") as stream:
                for group in range(footer.num_row_groups):
                    self._groups.append((file_number, group))
                    firsts.append(_first_value(stream, footer, (group, number), width_bytes))
                    starts.append(starts[-1] + footer.row_group(group).num_rows)
        self._starts, self._firsts = np.array(starts), np.array(firsts, np.int64)
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, pa.ChunkedArray] = OrderedDict()
        # What falls out of the cache is closed when its last reader lets go of it.
        self._open = lru_cache(_FILES_OPEN)(lambda number: _opened(self._files[number]))

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def direct_share(self) -> float:
        """Share of row groups that are read without a decoder."""
        return float((self._firsts != _NOT_DIRECT).mean()) if len(self._firsts) else 0.0

    def file(self, row: int) -> Path:
        """The file that a row stands in."""
        return self._files[self._groups[int(np.searchsorted(self._starts, row, side="right")) - 1][0]]

    def value(self, row: int) -> bytes:
        """The bytes of one row."""
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._decoded(group, row)

    def fill(self, rows: Sequence[int], out: memoryview) -> None:
        """Put values of one width into `out`, len(rows) * width bytes, one after the other.

        Raises:
            VidgenError: A value is missing, or its file was damaged meanwhile.

        """
        wanted, width = np.asarray(rows, np.int64), self._width
        groups = np.searchsorted(self._starts, wanted, side="right") - 1
        firsts = self._firsts[groups]
        offsets = np.where(firsts == _NOT_DIRECT, _NOT_DIRECT, firsts + (wanted - self._starts[groups]) * width)
        begin = 0
        for group, offset, row in zip(groups.tolist(), offsets.tolist(), rows, strict=True):
            place = out[begin : begin + width]
            begin += width
            if offset == _NOT_DIRECT:
                place[:] = self._decoded(group, row)
                continue
            number = self._groups[group][0]
            try:
                # Held by name: another thread may push it out of the cache, and nobody else would hold it.
                stream = self._open(number)
                read = os.preadv(stream.fileno(), (place,), offset)
            except OSError as error:
                raise damaged(self._files[number], str(error)) from error
            if read != width:
                raise damaged(self._files[number], f"it ends within row {row}")

    def _decoded(self, group: int, row: int) -> bytes:
        """A value by way of its row group."""
        with self._lock:
            if group not in self._kept:
                self._kept[group] = self._read(*self._groups[group])
                while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > _KEPT_BYTES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(group)
            value = self._kept[group][row - int(self._starts[group])].as_py()
        if value is None or (self._width and len(value) != self._width):
            raise VidgenError(
                f"A value of {self._column} is missing or of another length", got=f"{self.file(row)}, row {row}"
            )
        return value

    def _read(self, number: int, group: int) -> pa.ChunkedArray:
        file = self._files[number]
        try:
            with pq.ParquetFile(file) as opened:
                return opened.read_row_group(group, columns=[self._column])[self._column]
        except (OSError, pa.ArrowException) as error:
            raise damaged(file, str(error)) from error


class TensorColumn:
    """Tensors of one shape and type over many files.

    Args:
        files: Parquet files in the order in which their rows count.
        column: Their column of fixed-length bytes.
        stored: Shape and type of every value.

    """

    def __init__(self, files: Sequence[Path], column: str, stored: Stored) -> None:
        self.stored = stored
        self.values = BytesColumn(files, column, stored.width_bytes)

    def __len__(self) -> int:
        return len(self.values)

    def gather(self, rows: Sequence[int]) -> np.ndarray:
        """The tensors of some rows, [len(rows), *shape]."""
        out = np.empty((len(rows), *self.stored.shape), self.stored.dtype)
        if rows:
            self.values.fill(rows, out.data.cast("B"))
        return out


def _opened(file: Path) -> BinaryIO:
    try:
        stream = file.open("rb", buffering=0)
    except OSError as error:
        raise damaged(file, str(error)) from error
    # Order is random, so what follows a value is not wanted.
    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
    return stream


def _number(file: Path, footer: Any, column: str) -> int:
    names = [footer.schema.column(number).path for number in range(footer.num_columns)]
    if column not in names:
        raise VidgenError(f"{file} has no column {column!r}", allowed=", ".join(names))
    return names.index(column)


def _first_value(stream: BinaryIO, footer: Any, place: tuple[int, int], width_bytes: int) -> int:
    """Offset in the file of a chunk's first value, or -1 when the values do not lie there one after the other."""
    group, number = place
    column, chunk = footer.schema.column(number), footer.row_group(group).column(number)
    statistics = chunk.statistics
    no_nulls = statistics is not None and statistics.has_null_count and statistics.null_count == 0
    direct = (
        width_bytes > 0
        and chunk.physical_type == "FIXED_LEN_BYTE_ARRAY"
        and column.length == width_bytes
        and chunk.compression == "UNCOMPRESSED"
        and set(chunk.encodings) <= {"PLAIN", "RLE"}
        and not chunk.has_dictionary_page
        and (column.max_definition_level == 0 or no_nulls)
        and _page_bytes(stream, chunk.data_page_offset) >= chunk.num_values * width_bytes
    )
    end = chunk.data_page_offset + chunk.total_compressed_size
    if not direct or end > os.fstat(stream.fileno()).st_size:
        return _NOT_DIRECT
    return end - chunk.num_values * width_bytes


def _page_bytes(stream: BinaryIO, offset: int) -> int:
    """Stored size of the page whose header stands at an offset, or 0 when it cannot be read.

    A header is a Thrift compact structure that begins with three 32-bit integers: type, size, stored size.
    """
    stream.seek(offset)
    head = stream.read(32).ljust(32, b"\0")
    at, numbers = 0, []
    for _ in range(3):
        if head[at : at + 1] != b"\x15":  # next field, a 32-bit integer
            return 0
        value, shift, at = 0, 0, at + 1
        while head[at] & 0x80 and shift < 28:
            value, shift, at = value | (head[at] & 0x7F) << shift, shift + 7, at + 1
        numbers.append(value | head[at] << shift)
        at += 1
    return numbers[2] >> 1  # zigzag of a number that is not negative
