"""One clip as measures of motion look at it: luma, optical flow both ways, and what flow can be trusted for."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST_PX", "LEAST_PX", "MotionView", "warped"]

LEAST_PX = 12  # side below which there is no flow
LARGEST_PX = 128  # larger frames are made smaller for the flow
# DIS (Kroeger et al. 2016, arXiv:1603.03590) at its preset "medium".
_PRESET = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
# A clip whose fastest pixels are slower than this share of VBench's threshold stands still for our gates.
_STILL = 0.125

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class MotionView:
    """A clip uint8 [T, H, W, 3], T > 1, at a number of frames a second."""

    clip: NDArray[np.uint8]
    frame_rate: Fraction

    @cached_property
    def luma(self) -> NDArray[np.uint8]:
        """ITU-R BT.601 luma [T, h, w], of a side of at most `LARGEST_PX`."""
        height, width = self.clip.shape[1:3]
        scale = min(1.0, LARGEST_PX / max(height, width))
        size = (max(LEAST_PX, round(width * scale)), max(LEAST_PX, round(height * scale)))
        frames = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in self.clip]
        return np.stack(frames if scale == 1.0 else [cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])

    @cached_property
    def ahead(self) -> Floats:
        """Flow from each frame to the next, (x, y) in pixels of `luma` a frame, [T - 1, h, w, 2]."""
        return _flow(self.luma[:-1], self.luma[1:])

    @cached_property
    def back(self) -> Floats:
        """Flow from each frame but the first to the one before it, [T - 1, h, w, 2]."""
        return _flow(self.luma[1:], self.luma[:-1])

    @cached_property
    def seen_in_both(self) -> NDArray[np.bool_]:
        """Where the flows there and back agree, [T - 1, h, w]. Sundaram et al. 2010, eq. 5: else it is covered.

        What leaves the picture is not seen again either.
        """
        returned = np.stack([warped(back, ahead) for back, ahead in zip(self.back, self.ahead, strict=True)])
        apart = ((self.ahead + returned) ** 2).sum(-1)
        lengths = (self.ahead**2).sum(-1) + (returned**2).sum(-1)
        height, width = self.luma.shape[1:]
        rows, columns = np.mgrid[:height, :width]
        there = np.stack([columns + self.ahead[..., 0], rows + self.ahead[..., 1]], axis=-1)
        inside = ((there >= 0) & (there <= (width - 1, height - 1))).all(-1)
        return inside & (apart < 0.01 * lengths + 0.5)

    @cached_property
    def fastest_px(self) -> NDArray[np.float64]:
        """Mean length of the fastest 5 % of each flow, pixels a frame, [T - 1]."""
        return _fastest(self.ahead)

    @property
    def threshold_px(self) -> float:
        """VBench's length that counts as motion, for its 8 frames a second."""
        return 6.0 * min(self.luma.shape[1:]) / 256

    @property
    def moves(self) -> bool:
        """Whether anything does; a clip that stands still must win nothing by it."""
        return bool(np.mean(self.fastest_px) > _STILL * self.threshold_px)

    def is_dynamic(self) -> bool:
        """By VBench's formula: enough pairs of frames at 8 a second whose fastest pixels pass the threshold."""
        every = max(1, round(self.frame_rate / 8))
        luma = self.luma[::every]
        if len(luma) < 2:
            return False
        fastest = self.fastest_px if every == 1 else _fastest(_flow(luma[:-1], luma[1:]))
        slow = max(1.0, float(8 / self.frame_rate))
        return bool((fastest > slow * self.threshold_px).sum() >= max(1, round(4 * len(luma) / 16)))


def warped(picture: NDArray[np.generic], flow: Floats) -> Floats:
    """What a picture [h, w] or [h, w, C] shows at x + flow(x), bilinear; the border goes on outside."""
    height, width = flow.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    found = cv2.remap(
        picture.astype(np.float32), columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return np.asarray(found, np.float32)


def _flow(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Floats:
    finder = cv2.DISOpticalFlow.create(_PRESET)
    height, width = before.shape[1:]
    nothing = np.zeros((height, width, 2), np.float32)
    pairs = zip(before, after, strict=True)
    return np.stack([np.asarray(finder.calc(a, b, nothing.copy()), np.float32) for a, b in pairs])


def _fastest(flow: Floats) -> NDArray[np.float64]:
    lengths = np.sort(np.hypot(flow[..., 0], flow[..., 1]).reshape(len(flow), -1), axis=1)
    return lengths[:, -max(1, int(0.05 * lengths.shape[1])) :].mean(1).astype(np.float64)
