"""Pictures of spans for models that look at single pictures, in one sequential pass over a source.

They come from the source, upright, without bars and with square pixels, since a clip of the recipe's size may be far
too small to recognize anything in.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.decode import as_bytes, open_source, upright

__all__ = ["VERSION", "stills"]

VERSION = 1
_QUALITY = 92

Span = Mapping[str, Any]


def stills(file: Path, spans: Sequence[Span], *, frames: int, side_px: int) -> Iterator[tuple[Span, list[bytes]]]:
    """Each span with its pictures as JPEG files, from the middles of `frames` equal parts of it.

    A span whose frames do not come any more is left out.

    Raises:
        Undecodable: The source cannot be opened.

    """
    wanted = sorted(
        (pts, number)
        for number, span in enumerate(spans)
        for pts in _times(span["start_pts"], span["stop_pts"], frames)
    )
    taken: dict[int, list[bytes]] = {number: [] for number in range(len(spans))}
    opened = open_source(file)
    with opened.container:
        for pts, frame in opened.frames():
            picture: NDArray[np.uint8] | None = None
            while wanted and pts >= wanted[0][0]:
                _, number = wanted.pop(0)
                if picture is None:
                    picture = upright(as_bytes(frame, "rgb24"), opened.rotation)
                sar = 1 / opened.sar if opened.rotation % 180 else opened.sar
                taken[number].append(_jpeg(picture, spans[number], sar, side_px))
                if len(taken[number]) == frames:
                    yield spans[number], taken.pop(number)
            if not wanted:
                return


def _times(start_pts: int, stop_pts: int, frames: int) -> list[int]:
    """The middles of equal parts of a span: of one part, the middle of the span."""
    return [start_pts + (2 * part + 1) * (stop_pts - start_pts) // (2 * frames) for part in range(frames)]


def _jpeg(picture: NDArray[np.uint8], span: Span, sar: Fraction, side_px: int) -> bytes:
    x, y, width, height = (int(span[f"crop_{part}"]) for part in "xywh")
    shown_w, shown_h = width * max(float(sar), 1.0), height / min(float(sar), 1.0)
    scale = min(1.0, side_px / max(shown_w, shown_h))
    size = (max(1, round(shown_w * scale)), max(1, round(shown_h * scale)))
    image = Image.fromarray(np.ascontiguousarray(picture[y : y + height, x : x + width]))
    out = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", quality=_QUALITY, subsampling=0)
    return out.getvalue()
