"""VBench's temporal flickering: one minus the mean absolute difference of neighboring frames. Huang et al. 2023
(arXiv:2311.17982). A clip that stands still has the best value of all, so read it beside `dynamic_degree`.
"""  # noqa: D205

from typing import Literal

import numpy as np

from vidgen_core.evaluation.motion_view import MotionView

__all__ = ["BETTER", "VERSION", "of_clip"]

VERSION = 1
BETTER: Literal["lower", "higher", "real"] = "real"


def of_clip(view: MotionView) -> float | None:
    """0 to 1, over all pixels and channels."""
    frames = view.clip.astype(np.float32)
    return float(1 - np.abs(np.diff(frames, axis=0)).mean(dtype=np.float64) / 255)
