"""Pictures of spans for models that look at single pictures, in one sequential pass over a source.

They come from the source, upright, without bars and with square pixels, since a clip of the recipe's size may be far
too small to recognize anything in.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.decode import as_bytes, open_source, upright

__all__ = ["VERSION", "Picture", "box", "pictures", "stills"]

VERSION = 1
_QUALITY = 92

Span = Mapping[str, Any]


class Picture(NamedTuple):
    """A picture of a span, upright and without bars.

    Attributes:
        pixels: uint8 [H, W, 3].
        sar: Width over height of a pixel.

    """

    pixels: NDArray[np.uint8]
    sar: float

    def image(self, side_px: float = math.inf) -> Image.Image:
        """It with square pixels, made smaller where a side is longer than `side_px`."""
        image = Image.fromarray(self.pixels)
        shown_w, shown_h = image.width * max(self.sar, 1.0), image.height / min(self.sar, 1.0)
        scale = min(1.0, side_px / max(shown_w, shown_h))
        size = (max(1, round(shown_w * scale)), max(1, round(shown_h * scale)))
        return image.resize(size, Image.Resampling.BICUBIC)


def pictures(file: Path, spans: Sequence[Span], *, frames: int) -> Iterator[tuple[Span, list[Picture]]]:
    """Each span with its pictures, from the middles of `frames` equal parts of it, in one sequential pass.

    A span whose frames do not come any more is left out.

    Raises:
        Undecodable: The source cannot be opened.

    """
    wanted = sorted(
        (pts, number)
        for number, span in enumerate(spans)
        for pts in _times(span["start_pts"], span["stop_pts"], frames)
    )
    taken: dict[int, list[Picture]] = {number: [] for number in range(len(spans))}
    opened = open_source(file)
    with opened.container:
        for pts, frame in opened.frames():
            whole: NDArray[np.uint8] | None = None
            while wanted and pts >= wanted[0][0]:
                _, number = wanted.pop(0)
                whole = upright(as_bytes(frame, "rgb24"), opened.rotation) if whole is None else whole
                x, y, width, height = box(spans[number])
                shown = np.ascontiguousarray(whole[y : y + height, x : x + width])
                taken[number].append(Picture(shown, float(opened.upright_sar)))
                if len(taken[number]) == frames:
                    yield spans[number], taken.pop(number)
            if not wanted:
                return


def stills(file: Path, spans: Sequence[Span], *, frames: int, side_px: int) -> Iterator[tuple[Span, list[bytes]]]:
    """Each span with its pictures as JPEG files, no side longer than `side_px`; see `pictures`."""
    for span, shown in pictures(file, spans, frames=frames):
        yield span, [_jpeg(picture.image(side_px)) for picture in shown]


def box(span: Span) -> tuple[int, ...]:
    """The span's crop, (x, y, width, height) in upright source pixels."""
    return tuple(int(span[f"crop_{part}"]) for part in "xywh")


def _times(start_pts: int, stop_pts: int, frames: int) -> list[int]:
    """The middles of equal parts of a span: of one part, the middle of the span."""
    return [start_pts + (2 * part + 1) * (stop_pts - start_pts) // (2 * frames) for part in range(frames)]


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY, subsampling=0)
    return out.getvalue()
