"""What a shot detector is told, what it answers, and how pictures reach it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidgen_core.frozen import Frozen

__all__ = ["Detector", "ShotSettings", "Thumbs", "Transition"]

Thumbs = NDArray[np.uint8]  # RGB [frames, 27, 48, 3]


class ShotSettings(Frozen):
    """Which detector finds the shots.

    Args:
        detector: A file of `data_prep/shot_detectors`.
        threshold: The detector's own threshold, in its own unit; higher finds fewer. None is what it is published with.
        weights: The checkpoint of a detector that is a network.

    """

    detector: str = "thumbnails"
    threshold: float | None = None
    weights: Path | None = None


@dataclass(frozen=True, order=True)
class Transition:
    """Frames [start, stop) show two shots at once; a hard cut has none, and the new shot begins at `start`."""

    start: int
    stop: int

    @property
    def hard(self) -> bool:
        """Whether it is a cut."""
        return self.start == self.stop

    @property
    def middle(self) -> int:
        """The frame that stands for it."""
        return (self.start + self.stop) // 2


class Detector(Protocol):
    """Made by a detector's `open_detector(settings)`, for one source."""

    def push(self, thumbs: Thumbs) -> None:
        """Take the next frames of the source, any number of them."""
        ...

    def finish(self) -> list[Transition]:
        """All transitions, in order and apart; called once, after the last frame."""
        ...
