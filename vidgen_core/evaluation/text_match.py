"""How well clips fit their captions, by a model that knows both."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidgen_core import digests
from vidgen_core.errors import VidgenError
from vidgen_core.evaluation.extractors._contract import Clips
from vidgen_core.evaluation.extractors.open_clip import OpenClipImages
from vidgen_core.evaluation.measurements import Measurement, mean_of
from vidgen_core.evaluation.protocols import measurement
from vidgen_core.evaluation.set_metrics import Material
from vidgen_core.interfaces import Text, TextEncoder, VideoEncoder, to_unit

__all__ = ["ClipScore", "LearnedMatch", "Matches", "TextMatcher", "check_width", "text_match"]


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
            [float((self._clip.stills_of(clip) @ text).mean()) for clip, text in zip(clips, texts, strict=True)]
        )


class Matches(Protocol):
    """A trained encoder that knows captions, such as ClipBERT."""

    @property
    def digest(self) -> str:
        """Digest of its weights and of what it is made of."""
        ...

    def match(self, video: Tensor, text: Text) -> Tensor:
        """How much each caption fits its video [B, 3, T, H, W] in [-1, 1], more is better, [B]."""
        ...


class LearnedMatch:
    """The score of a trained encoder, ClipBERT's log odds of a match. Lei et al. 2021 (arXiv:2102.06183).

    Args:
        name: As names of metrics have it.
        encoder: The encoder.
        text: The text encoder that it learned with.

    """

    kind = "text_match_score"

    def __init__(self, name: str, encoder: Matches, text: TextEncoder) -> None:
        self._encoder, self._text, self.space = encoder, text, name.replace("_", "-")

    @property
    def digest(self) -> str:
        """See `TextMatcher`."""
        return digests.of_value([self._encoder.digest, self._text.digest])

    def scores(self, clips: Clips, captions: Sequence[str], *, batch: int = 16) -> NDArray[np.float64]:
        """See `TextMatcher`."""
        rows = []
        with torch.inference_mode():
            for start in range(0, len(clips), batch):
                video = to_unit(torch.from_numpy(clips[start : start + batch]))
                text = self._text.encode(captions[start : start + batch])
                rows.append(self._encoder.match(video, text).double().numpy())
        return np.concatenate(rows)


def check_width(name: str, encoder: VideoEncoder, width: int) -> None:
    """See that an encoder of captions takes those of a text encoder.

    Args:
        name: What it is called.
        encoder: The encoder.
        width: Of a caption's tokens.

    Raises:
        VidgenError: It learned captions of another width.

    """
    wanted = getattr(encoder.config, "text_dim", width)
    if wanted != width:
        raise VidgenError(
            f"The encoder {name!r} learned captions through another text encoder",
            got=f"captions of width {width}", allowed=f"captions of width {wanted}",
            move="Leave it out, or train it with this recipe's text encoder",
        )  # fmt: skip


def text_match(matcher: TextMatcher, material: Material, made: Clips, prompts: Sequence[str]) -> Measurement:
    """The mean over made clips; the floor is that of real clips with their captions."""
    numbers = mean_of(matcher.scores(made, prompts), matcher.scores(material.held_out, material.captions))
    assert numbers is not None
    clips = material.compared(len(made), frames=made.shape[1])
    told = {"weights": matcher.digest, "version": 1}
    return measurement(matcher.kind, matcher.space, numbers, clips, protocol=told, better="higher")
