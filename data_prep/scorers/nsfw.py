"""Probability that a still is not safe for work: a logistic head over CLIP, as Stability AI publishes it.

The head takes embeddings as the model gives them, without making their length one; the worst still counts.
"""

import numpy as np

from data_prep.score_settings import ScoreSettings
from data_prep.scorers._weights import Scorer, Stills, file_digest, named_digest, read_logistic
from vidgen_core import digests

__all__ = ["READS_CAPTION", "VERSION", "WRITES", "Nsfw", "digest", "open_scorer"]

VERSION = 1
WRITES = ("nsfw",)
READS_CAPTION = False


def digest(settings: ScoreSettings) -> str:
    """Of the head and the model below it."""
    own = settings.nsfw
    return digests.of_value([file_digest(own.weights, "nsfw"), own.model, named_digest(own.backbone)])


def open_scorer(settings: ScoreSettings) -> Scorer:
    """Read the head and its model.

    Raises:
        VidgenError: One of them cannot be read.

    """
    return Nsfw(settings)


class Nsfw:
    """Probability, 0 to 1."""

    def __init__(self, settings: ScoreSettings) -> None:
        from data_prep.scorers._clip import open_clip_model

        own = settings.nsfw
        self._clip, self._head = open_clip_model(own.model, own.backbone), read_logistic(own.weights)

    def score(self, stills: Stills, caption: str) -> dict[str, float | None]:  # noqa: ARG002
        """See `Scorer`."""
        logits = self._head(self._clip.pictures(stills)).astype(np.float64)
        return {"nsfw": float((1 / (1 + np.exp(-logits))).max())}
