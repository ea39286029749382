"""Black bars: the picture without the rows and columns at its border that stay black through the span."""

import numpy as np
from numpy.typing import NDArray

from data_prep.view import SpanView

__all__ = ["VERSION", "WRITES", "score"]

VERSION = 1
WRITES = ("crop_x", "crop_y", "crop_w", "crop_h", "keep_area")

# Codecs leave a bar at luma 16 to 20 with some ringing at its edge.
_BLACK = 28
# Thinner borders are blanking or ringing, and no bar has less than this share.
_LEAST_SHARE = 0.02


def score(view: SpanView) -> dict[str, float | None]:
    """The crop in upright source pixels, and the share of the picture that it keeps; a black picture is not cropped."""
    height, width = view.height, view.width
    whole: dict[str, float | None] = {"crop_x": 0, "crop_y": 0, "crop_w": width, "crop_h": height, "keep_area": 1.0}
    if not view.probes:
        return whole
    top, bottom = _bounds(np.max([probe.row_peaks for probe in view.probes], axis=0))
    left, right = _bounds(np.max([probe.column_peaks for probe in view.probes], axis=0))
    if bottom <= top or right <= left:
        return whole
    kept = (right - left) * (bottom - top) / (height * width)
    return whole | {"crop_x": left, "crop_y": top, "crop_w": right - left, "crop_h": bottom - top, "keep_area": kept}


def _bounds(peaks: NDArray[np.uint8]) -> tuple[int, int]:
    """First and past-the-last line that is ever lit."""
    lit = np.flatnonzero(peaks > _BLACK)
    if len(lit) == 0:
        return 0, 0
    start, stop, least = int(lit[0]), int(lit[-1]) + 1, max(2, round(_LEAST_SHARE * len(peaks)))
    return (start if start >= least else 0), (stop if len(peaks) - stop >= least else len(peaks))
