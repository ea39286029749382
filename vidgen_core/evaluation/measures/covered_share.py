"""Share of pixels that the next frame does not show again, by the flows there and back.

Motion covers and uncovers some; more than in real clips means that content appears and vanishes.
"""

from typing import Literal

from vidgen_core.evaluation.motion_view import MotionView

__all__ = ["BETTER", "VERSION", "of_clip"]

VERSION = 1
BETTER: Literal["lower", "higher", "real"] = "lower"


def of_clip(view: MotionView) -> float | None:
    """0 to 1; nothing of a clip that stands still."""
    return 1 - float(view.seen_in_both.mean()) if view.moves else None
