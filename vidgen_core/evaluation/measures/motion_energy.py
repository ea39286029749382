"""Motion energy: mean squared change of luma from frame to frame. Blind to what it is that changes."""

from typing import Literal

import numpy as np

from vidgen_core.evaluation.motion_view import MotionView

__all__ = ["BETTER", "VERSION", "of_clip"]

VERSION = 1
BETTER: Literal["lower", "higher", "real"] = "real"


def of_clip(view: MotionView) -> float | None:
    """In squared gray levels."""
    return float(np.square(np.diff(view.luma.astype(np.float64), axis=0)).mean())
