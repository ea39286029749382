"""Flicker: change of brightness where nothing moves. Gated by motion: a clip that stands still says nothing."""

from typing import Literal

import numpy as np

from vidgen_core.evaluation.motion_view import MotionView

__all__ = ["BETTER", "VERSION", "of_clip"]

VERSION = 1
BETTER: Literal["lower", "higher", "real"] = "lower"

_STILL_PX = 0.25  # flow below which a pixel stands still


def of_clip(view: MotionView) -> float | None:
    """Mean absolute change of luma, in gray levels, over pixels that stand still in clips that do not."""
    still = np.maximum(_lengths(view.ahead), _lengths(view.back)) < _STILL_PX
    if not view.moves or not still.any():
        return None
    change = np.abs(np.diff(view.luma.astype(np.float32), axis=0))
    return float(change[still].mean(dtype=np.float64))


def _lengths(flow: np.ndarray) -> np.ndarray:
    return np.hypot(flow[..., 0], flow[..., 1])
