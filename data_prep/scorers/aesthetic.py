"""Aesthetic score by LAION's heads over CLIP. Schuhmann et al. 2022, "LAION-5B" (arXiv:2210.08402), section 5.3.

Both of LAION's kinds of head are read: the linear ones, and the one with layers (which has no activations either). They
take embeddings of length one; the scale is about 1 to 10.
"""

from data_prep.score_settings import ScoreSettings
from data_prep.scorers._weights import ClipHead, Scorer, Stills, head_digest, read_regressor

__all__ = ["READS_CAPTION", "VERSION", "WRITES", "Aesthetic", "digest", "open_scorer"]

VERSION = 1
WRITES = ("aesthetic",)
READS_CAPTION = False


def digest(settings: ScoreSettings) -> str:
    """Of the head and the model below it."""
    return head_digest("aesthetic", settings.aesthetic)


def open_scorer(settings: ScoreSettings) -> Scorer:
    """Read the head and its model.

    Raises:
        VidgenError: One of them cannot be read.

    """
    return Aesthetic(ClipHead(settings.aesthetic, read_regressor))


class Aesthetic:
    """Mean over the stills."""

    def __init__(self, head: ClipHead) -> None:
        self._head = head

    def score(self, stills: Stills, caption: str) -> dict[str, float | None]:  # noqa: ARG002
        """See `Scorer`."""
        return {"aesthetic": float(self._head.of_units(stills).mean())}
