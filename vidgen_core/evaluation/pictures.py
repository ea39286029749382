"""Clips as pictures that a page can hold in itself: animated, and as four moments for whom motion disturbs."""

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidgen_core.clip import parse_rate

__all__ = ["Picture", "animated", "picture"]

_LARGEST_PX = 192  # the longer side on the page; a larger clip is made smaller
_EXACT_PX = 64  # up to this side a clip is kept to the pixel, and the browser enlarges it
_HOLD_MS = 500  # the last frame stays, so that an eye can tell the end from the beginning


@dataclass(frozen=True)
class Picture:
    """A clip on the page.

    Attributes:
        moving: Data URI of an animated WebP that repeats.
        moments: Data URI of a still WebP: four frames from first to last, in two rows.
        width_px, height_px: Of either; each keeps the clip's shape.
        exact: Kept to the pixel, to be enlarged without smoothing.

    """

    moving: str
    moments: str
    width_px: int
    height_px: int
    exact: bool


def picture(clip: NDArray[np.uint8], frame_rate: str) -> Picture:
    """A clip uint8 [T, H, W, 3] at a rate such as "8" or "30000/1001" frames a second, as data URIs."""
    exact = max(clip.shape[1:3]) <= _EXACT_PX
    frames = [_fitted(Image.fromarray(frame)) for frame in clip]
    durations_ms = _durations_ms(len(frames), frame_rate)
    width_px, height_px = frames[0].size
    chosen = [frames[round(place)] for place in np.linspace(0, len(frames) - 1, 4)]
    still = frames[0] if len(frames) == 1 else _two_by_two(chosen)
    return Picture(_data_uri(frames, durations_ms, exact), _data_uri([still], [0], exact), width_px, height_px, exact)


def animated(clip: NDArray[np.uint8], frame_rate: str) -> bytes:
    """A clip uint8 [T, H, W, 3] as the bytes of an animated WebP that repeats."""
    frames = [Image.fromarray(frame) for frame in clip]
    return _webp(frames, _durations_ms(len(frames), frame_rate), max(clip.shape[1:3]) <= _EXACT_PX)


def _durations_ms(count: int, frame_rate: str) -> list[int]:
    """How long each frame stays; rounding does not add up over the clip."""
    marks_ms = [round(1000 * place / parse_rate(frame_rate)) for place in range(count + 1)]
    durations_ms = [max(1, b - a) for a, b in zip(marks_ms, marks_ms[1:], strict=False)]
    return [*durations_ms[:-1], durations_ms[-1] + _HOLD_MS]


def _fitted(frame: Image.Image) -> Image.Image:
    scale = min(1.0, _LARGEST_PX / max(frame.size))
    if scale == 1.0:
        return frame
    width_px, height_px = (max(1, math.floor(side * scale)) for side in frame.size)
    return frame.resize((width_px, height_px), Image.Resampling.BOX, reducing_gap=None)


def _two_by_two(frames: list[Image.Image]) -> Image.Image:
    width_px, height_px = frames[0].size
    sheet = Image.new("RGB", (2 * width_px, 2 * height_px))
    for place, frame in enumerate(frames):
        sheet.paste(frame, (place % 2 * width_px, place // 2 * height_px))
    return sheet


def _data_uri(frames: list[Image.Image], durations_ms: list[int], exact: bool) -> str:
    return "data:image/webp;base64," + base64.b64encode(_webp(frames, durations_ms, exact)).decode()


def _webp(frames: list[Image.Image], durations_ms: list[int], exact: bool) -> bytes:
    stream = io.BytesIO()
    first, *others = frames
    motion = {"save_all": True, "append_images": others, "duration": durations_ms, "loop": 0} if others else {}
    first.save(stream, "WEBP", lossless=exact, quality=75, method=4, **motion)
    return stream.getvalue()
