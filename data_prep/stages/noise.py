"""Noise: robust standard deviation of the noise of luma or chroma, whichever has more, in steps of 8 bits.

The mask of Immerkaer 1996, "Fast noise variance estimation" (CVIU 64), which answers to neither flat areas nor straight
edges; instead of the mean of its answers the mean of their smaller half is used, which texture hardly reaches.
Chroma is looked at too: pictures have little texture there, and codecs that smooth the noise of luma often leave it.
"""

import numpy as np
from numpy.typing import NDArray

from data_prep.view import Picture, SpanView

__all__ = ["EVERY_S", "VERSION", "WRITES", "measure", "score"]

VERSION = 1
WRITES = ("noise",)
EVERY_S = 0.5

_ROWS = 60  # that are looked at, spread over the picture
_MASK_NORM = 6.0  # standard deviation of the mask's answer to noise of 1
# Mean of the smaller half of |z| for a normal z: 4 (phi(0) - phi(0.6745)).
_SMALLER_HALF = 0.32464


def measure(picture: Picture) -> float | None:
    """Of one picture; null when it is smaller than the mask."""
    found = [_sigma(plane) for plane in (picture.luma, *picture.chroma)]
    return max((sigma for sigma in found if sigma is not None), default=None)


def score(view: SpanView) -> dict[str, float | None]:
    """Median over the span's pictures."""
    return {"noise": view.median("noise")}


def _sigma(plane: NDArray[np.uint8]) -> float | None:
    height, width = plane.shape
    if min(height, width) < 3:
        return None
    step = max(1, height // _ROWS)
    above, row, below = (plane[start : height - 2 + start : step] for start in range(3))
    # The mask is [1, -2, 1] in both directions: first down the columns, then along the rows.
    bent = above.astype(np.int16) - 2 * row.astype(np.int16) + below
    answers = np.abs(bent[:, :-2] - 2 * bent[:, 1:-1] + bent[:, 2:])
    counts = np.bincount(answers.ravel())
    half = answers.size / 2
    smaller = np.diff(np.minimum(np.cumsum(counts), half), prepend=0.0)
    return float(smaller @ np.arange(len(counts))) / half / _SMALLER_HALF / _MASK_NORM
