"""What a feature extractor is, and the protocol that says how it sees clips."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vidgen_core import digests
from vidgen_core.frozen import Frozen

__all__ = ["Clips", "Extractor", "FeatureProtocol", "Features", "Frames", "StillExtractor"]

Clips = NDArray[np.uint8]
Frames = NDArray[np.uint8]
Features = NDArray[np.float64]


class FeatureProtocol(Frozen):
    """All that changes what an extractor makes of a clip.

    Args:
        encoder: Short name of the network, as names of metrics have it.
        weights: Digest of its weights, or of what it is made from.
        resize: How frames come to the network's size.
        values: Range of the pixels that it is shown.
        frames: Which frames it is shown, and how they become one vector.
        dimensions: Width of a feature.
        whitened: Whether metrics take each dimension from its mean, in deviations, both over the held-out clips.

    """

    encoder: str
    weights: str
    resize: str
    values: str
    frames: str
    dimensions: int
    whitened: bool


class Extractor(ABC):
    """Clips to features.

    Attributes:
        kinds: What distances in this space are called: "frechet" and "mmd", unless these have names of their own.
        least_frames, most_frames: Frames of a clip that it can be shown; None is any number.
        classifies: Whether features are logits, so that there is an inception score.
        reference: Split of the real clips that made ones are compared with.

    """

    kinds: ClassVar[Mapping[str, str]] = {}
    least_frames: int = 1
    most_frames: ClassVar[int | None] = None
    classifies: ClassVar[bool] = False
    reference: Literal["train", "held_out"] = "held_out"

    @property
    @abstractmethod
    def protocol(self) -> FeatureProtocol:
        """How it sees clips."""

    @abstractmethod
    def features(self, clips: Clips) -> Features:
        """Features float64 [N, D] of clips uint8 [N, T, H, W, 3]."""


class StillExtractor(Extractor):
    """One that sees single frames as well; a clip's features are the mean of its frames' unless it says otherwise.

    Attributes:
        consistency: What the agreement of a clip's frames in this space is called.

    """

    consistency: ClassVar[str] = "frame_consistency"

    @abstractmethod
    def stills(self, frames: Frames) -> Features:
        """Features float64 [M, D] of single frames uint8 [M, H, W, 3]."""

    def stills_of(self, clip: Frames) -> Features:
        """The same of a clip's frames: several metrics ask for them, and the network sees a clip once."""
        key = digests.of_array(clip)
        if key not in self._seen:
            self._seen[key] = self.stills(clip)
        return self._seen[key]

    @cached_property
    def _seen(self) -> dict[str, Features]:
        return {}

    def features(self, clips: Clips) -> Features:
        """See `Extractor`."""
        return np.stack([self.stills_of(clip).mean(0) for clip in clips])
