"""The samples of one split, read by number from Parquet files."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from vidgen_core.clip import decode_clips
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Batch, Text
from vidgen_core.training.columns import BytesColumn, TensorColumn, stored_in
from vidgen_core.training.job import Data
from vidgen_core.training.scalars import ScalarColumns

__all__ = ["Samples"]


class Samples:
    """The clips of one split in the order of their ids, which is the same however files were cut or committed.

    Args:
        data: The files.
        split: Which rows of them.
        text: Whether samples carry their captions' embeddings.
        scalars: Which scalar conditions they carry.

    """

    def __init__(self, data: Data, split: str, *, text: bool, scalars: Sequence[str] = ()) -> None:
        rows = _rows(data, split)
        self._kind = data.kind
        self.clip_ids = [clip_id for clip_id, _ in rows]
        self._rows = [row for _, row in rows]
        if data.kind == "clips":
            self._media = BytesColumn(data.files, "media")
        else:
            self._latents = TensorColumn(data.files, "latent", stored_in(data.files[0]))
        self._texts = _Texts(data, self.clip_ids) if text else None
        self._scalars = ScalarColumns(data.scalars, scalars, self.clip_ids)

    def __len__(self) -> int:
        return len(self.clip_ids)

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, frames, height, width) of a sample."""
        return tuple(self.batch([0], [0]).video.shape[1:])

    @property
    def text_dim(self) -> int:
        """Width of a text token, 0 without text."""
        return 0 if self._texts is None else self._texts.tokens.stored.shape[1]

    @property
    def digest(self) -> str:
        """Changes when other clips, other captions or other scalars would be learned from."""
        said = ["clips"] if self._texts is None else ["captioned clips", *map("\x01".join, self._texts.captions)]
        said += [self._scalars.digest] if self._scalars.digest else []
        return hashlib.sha256("\x00".join([*said, *self.clip_ids]).encode()).hexdigest()

    def batch(self, numbers: Sequence[int], index: Sequence[int]) -> Batch:
        """Some samples, and the keys of their draws."""
        rows = [self._rows[number] for number in numbers]
        text = None if self._texts is None else self._texts.gather(numbers, index)
        return Batch(self._video(rows), text, torch.tensor(index, dtype=torch.int64), self._scalars.batch(numbers))

    def _video(self, rows: Sequence[int]) -> Tensor:
        # In numpy, not torch: this runs on the loader's thread, where torch would open a second team of threads.
        if self._kind == "latents":
            return torch.from_numpy(self._latents.gather(rows).astype(np.float32))
        clips = np.asarray(decode_clips([bytes(self._media.value(row)) for row in rows]))
        video = np.divide(clips.transpose(0, 4, 1, 2, 3), np.float32(127.5), order="C", dtype=np.float32)
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

    def gather(self, numbers: Sequence[int], index: Sequence[int]) -> Text:
        """The texts of some clips, for the samples at some places of the stream."""
        rows = [_drawn(self._rows[number], place) for number, place in zip(numbers, index, strict=True)]
        said = [row is not None for row in rows]
        # An empty text borrows the first row's values, which its mask hides.
        tokens = torch.from_numpy(self.tokens.gather([row or 0 for row in rows]).astype(np.float32))
        mask = torch.from_numpy(self._mask.gather([row or 0 for row in rows]) & np.array(said)[:, None])
        return Text(tokens, mask)


def _drawn(rows: Sequence[int], place: int) -> int | None:
    """One of several, None of none."""
    if len(rows) < 2:
        return rows[0] if rows else None
    return rows[int.from_bytes(hashlib.blake2b(str(place).encode(), digest_size=8).digest()) % len(rows)]


def _rows(data: Data, split: str) -> list[tuple[str, int]]:
    if not data.files:
        return []
    table = _read(data.files, ["clip_id", "split"])
    columns = zip(table["clip_id"].to_pylist(), table["split"].to_pylist(), strict=True)
    return sorted((clip_id, row) for row, (clip_id, own) in enumerate(columns) if own == split)


def _read(files: Sequence[object], columns: list[str]) -> pa.Table:
    tables = [pq.ParquetFile(file).read(columns=columns) for file in files]
    empty = pa.table({name: pa.array([], pa.string()) for name in columns})
    return pa.concat_tables(tables, promote_options="permissive") if tables else empty
