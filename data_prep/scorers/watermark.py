"""Probability that stills carry a watermark: a logistic head over CLIP, as Stability AI publishes it.

The head takes embeddings as the model gives them, without making their length one; the mean over the stills counts.
"""

import numpy as np

from data_prep.score_settings import ScoreSettings
from data_prep.scorers._weights import Scorer, Stills, file_digest, named_digest, read_logistic
from vidgen_core import digests

__all__ = ["READS_CAPTION", "VERSION", "WRITES", "Watermark", "digest", "open_scorer"]

VERSION = 1
WRITES = ("watermark",)
READS_CAPTION = False


def digest(settings: ScoreSettings) -> str:
    """Of the head and the model below it."""
    own = settings.watermark
    return digests.of_value([file_digest(own.weights, "watermark"), own.model, named_digest(own.backbone)])


def open_scorer(settings: ScoreSettings) -> Scorer:
    """Read the head and its model.

    Raises:
        VidgenError: One of them cannot be read.

    """
    return Watermark(settings)


class Watermark:
    """Probability, 0 to 1."""

    def __init__(self, settings: ScoreSettings) -> None:
        from data_prep.scorers._clip import open_clip_model

        own = settings.watermark
        self._clip, self._head = open_clip_model(own.model, own.backbone), read_logistic(own.weights)

    def score(self, stills: Stills, caption: str) -> dict[str, float | None]:  # noqa: ARG002
        """See `Scorer`."""
        logits = self._head(self._clip.pictures(stills)).astype(np.float64)
        return {"watermark": float((1 / (1 + np.exp(-logits))).mean())}
