"""Aesthetic score by LAION's heads over CLIP. Schuhmann et al. 2022, "LAION-5B" (arXiv:2210.08402), section 5.3.

Both of LAION's kinds of head are read: the linear ones, and the one with layers (which has no activations either). They
take embeddings of length one; the scale is about 1 to 10.
"""

import numpy as np

from data_prep.score_settings import ScoreSettings
from data_prep.scorers._weights import Scorer, Stills, file_digest, named_digest, read_regressor
from vidgen_core import digests

__all__ = ["READS_CAPTION", "VERSION", "WRITES", "Aesthetic", "digest", "open_scorer"]

VERSION = 1
WRITES = ("aesthetic",)
READS_CAPTION = False


def digest(settings: ScoreSettings) -> str:
    """Of the head and the model below it."""
    own = settings.aesthetic
    return digests.of_value([file_digest(own.weights, "aesthetic"), own.model, named_digest(own.backbone)])


def open_scorer(settings: ScoreSettings) -> Scorer:
    """Read the head and its model.

    Raises:
        VidgenError: One of them cannot be read.

    """
    return Aesthetic(settings)


class Aesthetic:
    """Mean over the stills."""

    def __init__(self, settings: ScoreSettings) -> None:
        from data_prep.scorers._clip import open_clip_model

        own = settings.aesthetic
        self._clip, self._head = open_clip_model(own.model, own.backbone), read_regressor(own.weights)

    def score(self, stills: Stills, caption: str) -> dict[str, float | None]:  # noqa: ARG002
        """See `Scorer`."""
        embeddings = self._clip.pictures(stills)
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        return {"aesthetic": float(self._head(unit).mean())}
