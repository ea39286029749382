"""The samples of one split, read by number from Parquet files."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidgen_core.clip import decode_clips
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Batch, Text
from vidgen_core.training.columns import BytesColumn, Stored, TensorColumn, damaged, read_rows, stored_in
from vidgen_core.training.job import Data
from vidgen_core.training.scalars import ScalarColumns

__all__ = ["Samples", "Shape"]


Shape = tuple[int, int, int, int]


class Samples:
    """The clips of one split in the order of their ids, which is the same however files were cut or committed.

    Clips may be of several shapes; those of one shape are a bucket, and a batch is of one bucket.

    Args:
        data: The files.
        split: Which rows of them.
        text: Whether samples carry their captions' embeddings.
        scalars: Which scalar conditions they carry.
        labels: Which labels they carry besides; clips that lack one are no samples.

    Raises:
        VidgenError: A file is missing or damaged, or captions are not embedded.

    """

    def __init__(
        self, data: Data, split: str, *, text: bool, scalars: Sequence[str] = (), labels: Sequence[str] = ()
    ) -> None:
        self._store: _Latents | _Clips = _Latents(data) if data.kind == "latents" else _Clips(data)
        rows = sorted(self._store.rows(split))
        if labels and rows:
            known = ScalarColumns(data.scalars, labels, [clip_id for clip_id, _, _ in rows]).complete()
            rows = [row for row, complete in zip(rows, known, strict=True) if complete]
        self.clip_ids = [clip_id for clip_id, _, _ in rows]
        self._rows = [row for _, _, row in rows]
        self._shapes = [shape for _, shape, _ in rows]
        self._texts = _Texts(data, self.clip_ids) if text else None
        self._scalars = ScalarColumns(data.scalars, [*scalars, *labels], self.clip_ids)

    def __len__(self) -> int:
        return len(self.clip_ids)

    @cached_property
    def buckets(self) -> Mapping[Shape, NDArray[np.int64]]:
        """Shape (channels, frames, height, width) -> the numbers of its samples."""
        found: dict[Shape, list[int]] = {}
        for number, shape in enumerate(self._shapes):
            found.setdefault(shape, []).append(number)
        return {shape: np.array(found[shape]) for shape in sorted(found)}

    @property
    def text_shape(self) -> tuple[int, int]:
        """Tokens of a caption and their width, (0, 0) without text."""
        return (0, 0) if self._texts is None else self._texts.shape

    @property
    def digest(self) -> str:
        """Changes when other clips, other captions or other scalars would be learned from."""
        said = ["clips"] if self._texts is None else ["captioned clips", *map("\x01".join, self._texts.captions)]
        said += [self._scalars.digest] if self._scalars.digest else []
        return hashlib.sha256("\x00".join([*said, *self.clip_ids]).encode()).hexdigest()

    def scalar(self, name: str) -> NDArray[np.float32]:
        """A scalar or label of all samples, NaN where one is missing."""
        return self._scalars.batch(range(len(self)))[name].numpy()

    def batch(self, numbers: Sequence[int], index: Sequence[int]) -> Batch:
        """Some samples of one bucket as they are stored, and the keys of their draws."""
        rows = [self._rows[number] for number in numbers]
        text = None if self._texts is None else self._texts.gather(numbers, index)
        video = self._store.video(self._shapes[numbers[0]], rows)
        return Batch(video, text, torch.tensor(index, dtype=torch.int64), self._scalars.batch(numbers))


class _Latents:
    """Stored latents of one or several shapes; a file has one."""

    def __init__(self, data: Data) -> None:
        self._files: dict[Stored, list[Path]] = {}
        for file in data.files:
            self._files.setdefault(stored_in(file), []).append(file)
        if len({stored.dtype for stored in self._files}) > 1:
            raise VidgenError(
                "Latents of one codec are stored in several types",
                got=", ".join(sorted({stored.dtype.name for stored in self._files})),
                move="Delete the folder of that table and run vidgen latents again",
            )
        self._columns = {stored.shape: TensorColumn(files, "latent", stored) for stored, files in self._files.items()}

    def rows(self, split: str) -> Iterator[tuple[str, Shape, int]]:
        """(clip id, shape, row among those of the shape) of a split's clips."""
        for stored, files in self._files.items():
            for clip_id, own, row in _listed(files):
                if own == split:
                    yield clip_id, cast(Shape, stored.shape), row

    def video(self, shape: Shape, rows: Sequence[int]) -> Tensor:
        """Latents [len(rows), *shape] as they are stored, in half precision."""
        return torch.from_numpy(self._columns[shape].gather(rows))


class _Clips:
    """Clips that are decoded when they are wanted."""

    def __init__(self, data: Data) -> None:
        self._files = data.files
        self._media = BytesColumn(data.files, "media")

    def rows(self, split: str) -> Iterator[tuple[str, Shape, int]]:
        """(clip id, shape, row) of a split's clips."""
        table = _read(self._files, ["frames", "height", "width"])
        sizes = list(zip(*(table[name].to_pylist() for name in ("frames", "height", "width")), strict=True))
        for clip_id, own, row in _listed(self._files):
            if own == split:
                yield clip_id, (3, *sizes[row]), row

    def video(self, shape: Shape, rows: Sequence[int]) -> Tensor:
        """Video [len(rows), *shape] in [-1, 1]."""
        # In numpy, not torch: this runs on the loader's thread, where torch would open a second team of threads.
        clips = []
        for row in rows:
            try:
                clips.append(decode_clips([self._media.value(row)])[0])
            except VidgenError as error:
                raise damaged(self._media.file(row), f"row {row} cannot be decoded") from error
        video = np.divide(np.stack(clips).transpose(0, 4, 1, 2, 3), np.float32(127.5), order="C", dtype=np.float32)
        if video.shape[1:] != shape:
            raise damaged(self._media.file(rows[0]), f"a clip is of shape {video.shape[1:]}, not {shape}")
        return torch.from_numpy(np.subtract(video, np.float32(1.0), out=video))


class _Texts:
    """The embedded captions of some clips; a clip without a caption has an empty text.

    Of several captions of a clip a sample has one by chance, which its place in the run's stream decides.
    """

    def __init__(self, data: Data, clip_ids: Sequence[str]) -> None:
        if not data.embeddings:
            raise VidgenError(
                "This learner reads text, but no clip has an embedded caption",
                move="Put captions beside the videos and run prepare and latents again",
            )
        tokens = stored_in(data.embeddings[0])
        self.tokens = TensorColumn(data.embeddings, "tokens", tokens)
        self._mask = TensorColumn(
            data.embeddings, "mask", tokens._replace(shape=tokens.shape[:1], dtype=np.dtype(bool))
        )
        table = _read(data.captions, ["clip_id", "caption"])
        said: dict[str, set[str]] = {}
        for clip_id, caption in zip(table["clip_id"].to_pylist(), table["caption"].to_pylist(), strict=True):
            said.setdefault(clip_id, set()).update({caption} if caption else ())
        self.captions = [sorted(said.get(clip_id, ())) for clip_id in clip_ids]
        place = {caption: row for row, caption in enumerate(_read(data.embeddings, ["caption"])["caption"].to_pylist())}
        lacking = sorted({caption for captions in self.captions for caption in captions} - place.keys())
        if lacking:
            raise VidgenError(
                f"{len(lacking)} captions are not embedded", got=lacking[0], move="Run vidgen latents again"
            )
        self._rows = [[place[caption] for caption in captions] for captions in self.captions]

    @property
    def shape(self) -> tuple[int, int]:
        """Tokens of a caption and their width."""
        tokens, width = self.tokens.stored.shape
        return tokens, width

    def gather(self, numbers: Sequence[int], index: Sequence[int]) -> Text:
        """The texts of some clips, for the samples at some places of the stream."""
        rows = [_drawn(self._rows[number], place) for number, place in zip(numbers, index, strict=True)]
        said = [row is not None for row in rows]
        # An empty text borrows the first row's values, which its mask hides.
        tokens = torch.from_numpy(self.tokens.gather([row or 0 for row in rows]))
        mask = torch.from_numpy(self._mask.gather([row or 0 for row in rows]) & np.array(said)[:, None])
        return Text(tokens, mask)


def _drawn(rows: Sequence[int], place: int) -> int | None:
    """One of several, None of none."""
    if len(rows) < 2:
        return rows[0] if rows else None
    return rows[int.from_bytes(hashlib.blake2b(str(place).encode(), digest_size=8).digest()) % len(rows)]


def _listed(files: Sequence[Path]) -> Iterator[tuple[str, str, int]]:
    """(clip id, split, row) of every row of some files."""
    table = _read(files, ["clip_id", "split"])
    yield from zip(table["clip_id"].to_pylist(), table["split"].to_pylist(), range(len(table)), strict=True)


def _read(files: Sequence[Path], columns: list[str]) -> pa.Table:
    tables = [read_rows(file, columns) for file in files]
    empty = pa.table({name: pa.array([], pa.string()) for name in columns})
    return pa.concat_tables(tables, promote_options="permissive") if tables else empty
