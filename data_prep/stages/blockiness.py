"""Blockiness: how much more luma steps at the borders of 8 x 8 blocks than inside them.

After Wang, Bovik and Evans 2000, "Blind measurement of blocking artifacts in images" (ICIP), in the domain of pixels:
the mean absolute step of each column (row) is folded at 8, and the strongest place is compared with the typical one.
The grid may begin anywhere, as after a crop; after a resize it is no longer at 8 and is not seen.
"""

import numpy as np
from numpy.typing import NDArray

from data_prep.view import Picture, SpanView

__all__ = ["EVERY_S", "VERSION", "WRITES", "measure", "score"]

VERSION = 1
WRITES = ("blockiness",)
EVERY_S = 0.5

_BLOCK = 8
_LINES = 72  # of each direction that are looked at, spread over the picture
_LEAST_STEP = 0.25  # gray levels: added to both sides, so that a plain picture has no blocks


def measure(picture: Picture) -> float | None:
    """Geometric mean of both directions, 1 without blocks; null for a picture of fewer than four blocks."""
    height, width = picture.luma.shape
    if min(height, width) < 4 * _BLOCK:
        return None
    # An odd step, so that the lines that are looked at lie everywhere in the blocks.
    across = picture.luma[:: max(1, height // _LINES) | 1]
    along = np.ascontiguousarray(picture.luma[:, :: max(1, width // _LINES) | 1].T)
    return float(np.sqrt(_ratio(across, picture.gain) * _ratio(along, picture.gain)))


def score(view: SpanView) -> dict[str, float | None]:
    """Median over the span's pictures."""
    return {"blockiness": view.median("blockiness")}


def _ratio(lines: NDArray[np.uint8], gain: float) -> float:
    steps = np.abs(np.diff(lines.astype(np.int16), axis=1)).mean(0) * gain
    whole = steps[: len(steps) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    # The median over the blocks, for one hard edge (a black bar, a building) is no grid.
    folded = np.median(whole, axis=0) + _LEAST_STEP
    return float(folded.max() / np.median(folded))
