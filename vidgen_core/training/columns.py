"""Columns of Parquet files read value by value, in any order.

Tensors stand in Parquet as fixed-length bytes. Where a column chunk is plain, uncompressed, without nulls and of one
page, value i of n ends (n - 1 - i) widths before the chunk does, and a memory map reads it without a decoder. Any
other chunk is read by its row group.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vidgen_core.errors import VidgenError

__all__ = ["WRITING", "BytesColumn", "Stored", "TensorColumn", "stored_in", "to_column", "to_table"]

# How to write a column of tensors so that it can be read directly: plain, uncompressed, one page a row group.
WRITING: Mapping[str, Any] = {
    "compression": "NONE",
    "use_dictionary": False,
    "write_statistics": False,
    "row_group_size": 16,
    "data_page_size": 2**30,
}

_MAPS_OPEN = 256
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
        VidgenError: It says nothing.

    """
    entry = (pq.read_schema(file).metadata or {}).get(b"vidgen")
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


class BytesColumn:
    """A column of bytes over many files; row groups are read whole and the latest are kept, up to 256 MiB.

    Args:
        files: Parquet files in the order in which their rows count.
        column: Name of the column.
        width_bytes: Length of every value, or 0 when values differ in length.

    """

    def __init__(self, files: Sequence[Path], column: str, width_bytes: int = 0) -> None:
        self._column, self._width = column, width_bytes
        self._groups: list[tuple[Path, int, int]] = []
        starts = [0]
        for file in files:
            footer = pq.read_metadata(file)
            number = _number(file, footer, column)
            with file.open("rb") as stream:
                for group in range(footer.num_row_groups):
                    start = _first_value(stream, footer, (group, number), width_bytes)
                    self._groups.append((file, group, start))
                    starts.append(starts[-1] + footer.row_group(group).num_rows)
        self._starts = np.array(starts)
        self._kept: OrderedDict[tuple[Path, int], pa.ChunkedArray] = OrderedDict()
        self._map = lru_cache(_MAPS_OPEN)(_open_map)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def direct_share(self) -> float:
        """Share of row groups that are read without a decoder."""
        return sum(start != _NOT_DIRECT for _, _, start in self._groups) / max(1, len(self._groups))

    def value(self, row: int) -> bytes | np.ndarray:
        """The bytes of one row."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        position = row - int(self._starts[number])
        file, group, start = self._groups[number]
        if start != _NOT_DIRECT:
            begin = start + position * self._width
            return self._map(file)[begin : begin + self._width]
        value = self._read(file, group)[position].as_py()
        if value is None or (self._width and len(value) != self._width):
            raise VidgenError(f"A value of {self._column} is missing or of another length", got=f"{file}, row {row}")
        return value

    def _read(self, file: Path, group: int) -> pa.ChunkedArray:
        key = (file, group)
        if key not in self._kept:
            with pq.ParquetFile(file) as opened:
                self._kept[key] = opened.read_row_group(group, columns=[self._column])[self._column]
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > _KEPT_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


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
        out = np.empty((len(rows), self.stored.width_bytes), np.uint8)
        for number, row in enumerate(rows):
            out[number] = np.frombuffer(self.values.value(row), np.uint8)
        return out.view(self.stored.dtype).reshape(len(rows), *self.stored.shape)


def _open_map(file: Path) -> np.memmap:
    return np.memmap(file, np.uint8, mode="r")


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
    if not direct:
        return _NOT_DIRECT
    return chunk.data_page_offset + chunk.total_compressed_size - chunk.num_values * width_bytes


def _page_bytes(stream: BinaryIO, offset: int) -> int:
    """Stored size of the page whose header stands at an offset, or 0 when it cannot be read.

    A header is a Thrift compact structure that begins with three 32-bit integers: type, size, stored size.
    """
    stream.seek(offset)
    head = stream.read(32)
    at, numbers = 0, []
    for _ in range(3):
        if head[at : at + 1] != b"\x15":  # next field, a 32-bit integer
            return 0
        value, shift, at = 0, 0, at + 1
        while head[at] & 0x80:
            value, shift, at = value | (head[at] & 0x7F) << shift, shift + 7, at + 1
        numbers.append(value | head[at] << shift)
        at += 1
    return numbers[2] >> 1  # zigzag of a number that is not negative
