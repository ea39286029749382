"""What one decode pass leaves behind of a source, and the part of it that a stage sees of a span."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from av import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from data_prep.decode import as_bytes, upright

__all__ = ["THUMB_HEIGHT", "THUMB_WIDTH", "Picture", "SpanView", "picture", "thumb"]

THUMB_WIDTH, THUMB_HEIGHT = 48, 27
# Making a scaler costs more than a thumbnail; this one is made again only when the size of the frames changes. It gets
# one thread: by itself it would take all cores for each, which doubles the cost.
_SCALER = VideoReformatter()
# Planar formats whose first plane is luma and whose next two, if any, are chroma.
_PLANAR = re.compile(r"yuv(?P<full>j?)a?4[1-4][0-4]p(?P<bits>|10le|12le)|gray")
_FULL_RANGE = 2


@dataclass(frozen=True)
class Picture:
    """One upright picture at full size, as stages measure it.

    Attributes:
        luma: uint8 [H, W] as it is stored: black is `black`, and a gray level is 1 / `gain` of its steps.
        black: 16 in video range, 0 in full range.
        gain: Gray levels (0 to 255) of one step of luma.
        chroma: The two planes of color differences, uint8 [H', W']; none where the format mixes them.

    """

    luma: NDArray[np.uint8]
    black: int = 0
    gain: float = 1.0
    chroma: tuple[NDArray[np.uint8], ...] = ()


@dataclass(frozen=True)
class SpanView:
    """A span to a stage.

    Attributes:
        thumbs: RGB thumbnails of all its frames, as stored and not turned, uint8 [N, 27, 48, 3].
        times_s: When each frame is shown, in seconds [N].
        measures: What each stage measured of the span's pictures, by the stage's name.
        height, width: Size of the upright picture in px.
        rotation: Degrees counter-clockwise to turn a thumbnail for showing.

    """

    thumbs: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    measures: Mapping[str, tuple[Any, ...]]
    height: int
    width: int
    rotation: int = 0

    @cached_property
    def luma(self) -> NDArray[np.float32]:
        """Mean of the three colors of the thumbnails, float32 [N, 27, 48]."""
        red, green, blue = (self.thumbs[..., color].astype(np.float32) for color in range(3))
        return (red + green + blue) / np.float32(3)

    @property
    def px_per_thumb_px(self) -> tuple[float, float]:
        """Stored pixels in a thumbnail's pixel, (vertically, horizontally)."""
        height, width = (self.width, self.height) if self.rotation % 180 else (self.height, self.width)
        return height / self.thumbs.shape[1], width / self.thumbs.shape[2]

    def median(self, stage: str) -> float | None:
        """Median of a stage's measures that are numbers; null when it has none."""
        values = [value for value in self.measures.get(stage, ()) if value is not None]
        return float(np.median(values)) if values else None


def thumb(frame: VideoFrame) -> NDArray[np.uint8]:
    """The frame as uint8 [27, 48, 3], straight from the scaler; not turned, since no analysis minds."""
    small = _SCALER.reformat(
        frame, width=THUMB_WIDTH, height=THUMB_HEIGHT, format="rgb24", interpolation="FAST_BILINEAR", threads=1
    )
    rows = _plane(small.planes[0], 8, channels=3)
    return rows.reshape(THUMB_HEIGHT, THUMB_WIDTH, 3)


def picture(frame: VideoFrame, rotation: int) -> Picture:
    """The frame at full size; the planes of common formats are looked at where they are, without a copy."""
    known = _PLANAR.fullmatch(frame.format.name)
    if not known or any(plane.line_size <= 0 for plane in frame.planes):
        return Picture(_upright(as_bytes(frame, "gray"), rotation))
    bits = int((known["bits"] or "8").removesuffix("le"))
    luma, *chroma = (_upright(_plane(plane, bits), rotation) for plane in frame.planes[:3])
    if frame.color_range == _FULL_RANGE or known["full"] or frame.format.name == "gray":
        return Picture(luma, chroma=tuple(chroma))
    return Picture(luma, black=16, gain=255 / 219, chroma=tuple(chroma))


def _plane(plane: VideoPlane, bits: int, channels: int = 1) -> NDArray[np.uint8]:
    """The upper eight bits of a plane [H, W * channels], without the padding of its lines."""
    raw: NDArray[Any] = np.frombuffer(memoryview(plane), np.uint8 if bits == 8 else np.uint16)
    pixels = raw.reshape(plane.height, -1)[:, : plane.width * channels]
    return pixels if bits == 8 else (pixels >> (bits - 8)).astype(np.uint8)


def _upright(pixels: NDArray[np.uint8], rotation: int) -> NDArray[np.uint8]:
    """Turned, with rows that lie one after the other in memory."""
    return np.ascontiguousarray(upright(pixels, rotation)) if rotation % 360 else pixels
