"""Warping error: what the flow does not explain of the next frame, where it is seen in both.

Lai et al. 2018, "Learning Blind Video Temporal Consistency" (arXiv:1808.00449), eq. 9, with luma in gray levels and the
forward-backward check of Sundaram et al. 2010. Gated by motion: a clip that stands still says nothing.
"""

from typing import Literal

import numpy as np

from vidgen_core.evaluation.motion_view import MotionView, warped

__all__ = ["BETTER", "VERSION", "of_clip"]

VERSION = 1
BETTER: Literal["lower", "higher", "real"] = "lower"


def of_clip(view: MotionView) -> float | None:
    """Mean absolute difference in gray levels over the pixels that both frames show."""
    if not view.moves or not view.seen_in_both.any():
        return None
    luma = view.luma
    explained = np.stack([warped(after, flow) for after, flow in zip(luma[1:], view.ahead, strict=True)])
    return float(np.abs(explained - luma[:-1])[view.seen_in_both].mean(dtype=np.float64))
