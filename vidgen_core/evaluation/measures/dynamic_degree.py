"""VBench's dynamic degree with another flow: whether a clip moves at all. Huang et al. 2023 (arXiv:2311.17982).

VBench takes RAFT's flow, and this DIS's, so numbers do not compare with VBench's.
"""

from typing import Literal

from vidgen_core.evaluation.motion_view import MotionView

__all__ = ["BETTER", "VERSION", "of_clip"]

VERSION = 1
BETTER: Literal["lower", "higher", "real"] = "real"


def of_clip(view: MotionView) -> float | None:
    """1 or 0; the mean over clips is the degree."""
    return float(view.is_dynamic())
