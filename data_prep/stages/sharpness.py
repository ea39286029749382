"""Sharpness: 1 minus the blur effect. Crete et al. 2007, "The blur effect" (SPIE 6492), eq. 1 to 5.

A picture is blurred once more: one that was sharp loses much of the variation between neighbors, one that was blurred
or upscaled has little to lose. The ratio does not depend on contrast or brightness.
"""

import numpy as np
from numpy.typing import NDArray

from data_prep.view import Picture, SpanView

__all__ = ["EVERY_S", "VERSION", "WRITES", "measure", "score"]

VERSION = 2
WRITES = ("sharpness",)
EVERY_S = 0.5

_FILTER = 9  # pixels, as in the paper
_LINES = 36  # of each direction that are looked at, spread over the picture


def measure(picture: Picture) -> float | None:
    """0 (blurred or plain) to 1 (sharp) in the direction that is less sharp; null when smaller than the filter."""
    height, width = picture.luma.shape
    across = picture.luma[:: max(1, height // _LINES)]
    along = np.ascontiguousarray(picture.luma[:, :: max(1, width // _LINES)].T)
    kept = [_sharpness(lines) for lines in (across, along)]
    return min((one for one in kept if one is not None), default=None)


def score(view: SpanView) -> dict[str, float | None]:
    """Median over the span's pictures."""
    return {"sharpness": view.median("sharpness")}


def _sharpness(lines: NDArray[np.uint8]) -> float | None:
    """Share of the variation along lines [L, N] that a box filter takes away."""
    if lines.shape[1] <= _FILTER + 1:
        return None
    half = _FILTER // 2
    values = lines.astype(np.int32)
    sums = np.cumsum(values, axis=1)
    # The difference of two neighboring boxes is that of their ends.
    blurred = np.abs(sums[:, _FILTER + 1 :] - sums[:, _FILTER:-1] - sums[:, 1:-_FILTER] + sums[:, : -_FILTER - 1])
    steps = np.abs(np.diff(values, axis=1))[:, half + 1 : half + 1 + blurred.shape[1]]
    variation = int(steps.sum())
    if variation == 0:
        return 0.0
    lost = np.maximum(0, _FILTER * steps - blurred).sum() / _FILTER
    return float(lost / variation)
