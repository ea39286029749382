"""Black bars: the picture without the rows and columns at its border that stay black through the span."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.view import Picture, SpanView

__all__ = ["EVERY_S", "VERSION", "WRITES", "Lit", "crop", "measure", "score"]

VERSION = 2
WRITES = ("crop_x", "crop_y", "crop_w", "crop_h", "keep_area")
EVERY_S = 0.5

# Codecs leave some ringing in a bar, at most so many gray levels.
_BLACK = 28
# A line is lit when more than this share of its pixels are; single ones are noise.
_LIT_SHARE = 0.02
# Pixels of a line that are looked at: enough for that share, whatever the size of the picture.
_LOOKED_AT = 200
# Thinner borders are blanking or ringing, and no bar has less than this share.
_LEAST_SHARE = 0.02


class Lit(NamedTuple):
    """Which rows [H] and columns [W] of a picture are lit."""

    rows: NDArray[np.bool_]
    columns: NDArray[np.bool_]


def measure(picture: Picture) -> Lit:
    """The lit rows and columns of one picture."""
    height, width = picture.luma.shape
    level = picture.black + _BLACK / picture.gain
    across = picture.luma[:, :: max(1, width // _LOOKED_AT)] > level
    along = picture.luma[:: max(1, height // _LOOKED_AT)] > level
    return Lit(across.mean(1, dtype=np.float32) > _LIT_SHARE, along.mean(0, dtype=np.float32) > _LIT_SHARE)


def score(view: SpanView) -> dict[str, float | None]:
    """The crop in upright source pixels, and the share of the picture that it keeps; a black picture is not cropped."""
    left, top, width, height = crop(view.measures.get("black_bars", ()), view.height, view.width)
    kept = width * height / (view.height * view.width)
    return {"crop_x": left, "crop_y": top, "crop_w": width, "crop_h": height, "keep_area": kept}


def crop(lit: Sequence[Lit], height: int, width: int) -> tuple[int, int, int, int]:
    """What is ever lit of pictures of this size, (x, y, width, height); all of them where nothing is."""
    if not lit:
        return 0, 0, width, height
    top, bottom = _bounds(np.any([one.rows for one in lit], axis=0))
    left, right = _bounds(np.any([one.columns for one in lit], axis=0))
    if bottom <= top or right <= left:
        return 0, 0, width, height
    return left, top, right - left, bottom - top


def _bounds(lit: NDArray[np.bool_]) -> tuple[int, int]:
    """First and past-the-last line that is ever lit."""
    places = np.flatnonzero(lit)
    if len(places) == 0:
        return 0, 0
    start, stop, least = int(places[0]), int(places[-1]) + 1, max(2, round(_LEAST_SHARE * len(lit)))
    return (start if start >= least else 0), (stop if len(lit) - stop >= least else len(lit))
