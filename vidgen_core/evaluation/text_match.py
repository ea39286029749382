"""How well clips fit their captions, by a model that knows both."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidgen_core.evaluation.extractors._contract import Clips
from vidgen_core.evaluation.extractors.open_clip import OpenClipImages
from vidgen_core.evaluation.measurements import Measurement, mean_of
from vidgen_core.evaluation.protocols import Compared, measurement
from vidgen_core.evaluation.set_metrics import Material

__all__ = ["ClipScore", "TextMatcher", "text_match"]


class TextMatcher(Protocol):
    """A model of captions and clips.

    Attributes:
        kind: What its number is called.
        space: Which model it is, as names of metrics have it.

    """

    kind: str
    space: str

    @property
    def digest(self) -> str:
        """Digest of its weights and of how it scores."""
        ...

    def scores(self, clips: Clips, captions: Sequence[str]) -> NDArray[np.float64]:
        """How well each clip uint8 [N, T, H, W, 3] fits its caption, more is better, [N]."""
        ...


class ClipScore:
    """CLIPSIM: the mean over all frames of the cosine of frame and caption. Wu et al. 2021 (arXiv:2104.14806).

    The cosine as it is, not times 100 or 2.5, and not cut at zero.
    """

    kind = "clip_score"

    def __init__(self, clip: OpenClipImages) -> None:
        self._clip, self.space = clip, clip.protocol.encoder

    @property
    def digest(self) -> str:
        """See `TextMatcher`."""
        return self._clip.protocol.weights

    def scores(self, clips: Clips, captions: Sequence[str]) -> NDArray[np.float64]:
        """See `TextMatcher`."""
        texts = self._clip.texts(captions)
        return np.array(
            [float((self._clip.stills(clip) @ text).mean()) for clip, text in zip(clips, texts, strict=True)]
        )


def text_match(matcher: TextMatcher, material: Material, made: Clips, prompts: Sequence[str]) -> Measurement:
    """The mean over made clips; the floor is that of real clips with their captions."""
    numbers = mean_of(matcher.scores(made, prompts), matcher.scores(material.held_out, material.captions))
    assert numbers is not None
    frames, height, width = made.shape[1:4]
    clips = Compared(frames=frames, height=height, width=width, frame_rate=material.frame_rate, n=len(made),
                     reference="held_out" if material.kept_apart else "all")  # fmt: skip
    told = {"weights": matcher.digest, "of": "the mean over all frames"}
    return measurement(matcher.kind, matcher.space, numbers, clips, protocol=told, better="higher")
