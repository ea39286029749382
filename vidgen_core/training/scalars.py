"""Scalar conditions and labels of samples, from files with a row a clip and a column a scalar."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from vidgen_core.errors import VidgenError

__all__ = ["ScalarColumns"]


class ScalarColumns:
    """Some scalars of some clips.

    Args:
        files: Parquet files with `clip_id` and a column for each scalar, null where it is missing.
        names: Which scalars.
        clip_ids: The clips, in the order of the samples.

    Raises:
        VidgenError: A clip has no row, or a scalar no column.

    """

    def __init__(self, files: Sequence[Path], names: Sequence[str], clip_ids: Sequence[str]) -> None:
        found: dict[str, list[float | None]] = {}
        for file in files if names else ():
            table = pq.ParquetFile(file).read()
            lacking = sorted(set(names) - set(table.column_names))
            if lacking:
                raise VidgenError(f"{file} has no condition {lacking[0]!r}", move="Run vidgen latents again")
            rows = zip(*(table[name].to_pylist() for name in names), strict=True)
            found |= {clip: list(row) for clip, row in zip(table["clip_id"].to_pylist(), rows, strict=True)}
        unknown = [clip for clip in clip_ids if clip not in found] if names else []
        if unknown:
            raise VidgenError(
                f"{len(unknown)} clips have no row of conditions", got=unknown[0], move="Run vidgen latents again"
            )
        values = np.array([found[clip] for clip in clip_ids] if names else [], np.float32)
        self._columns = {name: values[:, place] for place, name in enumerate(names)} if len(values) else {}

    def batch(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """The scalars of some samples, float32 [len(numbers)] each, NaN where one is missing."""
        return {name: torch.from_numpy(column[list(numbers)]) for name, column in self._columns.items()}

    def complete(self) -> list[bool]:
        """For each clip whether no scalar is missing."""
        return (~np.any([np.isnan(column) for column in self._columns.values()], axis=0)).tolist()

    @property
    def digest(self) -> str:
        """Changes when other scalars, or other values, would be learned from; "" without any."""
        if not self._columns:
            return ""
        hashed = hashlib.sha256()
        for name, column in self._columns.items():
            hashed.update(name.encode() + b"\x00" + column.tobytes())
        return hashed.hexdigest()
