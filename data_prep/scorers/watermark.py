"""Probability that stills carry a watermark: a logistic head over CLIP, as Stability AI publishes it.

The head takes embeddings as the model gives them, without making their length one; the mean over the stills counts.
"""

from data_prep.score_settings import ScoreSettings
from data_prep.scorers._weights import ClipHead, Scorer, Stills, head_digest, read_logistic

__all__ = ["READS_CAPTION", "VERSION", "WRITES", "Watermark", "digest", "open_scorer"]

VERSION = 1
WRITES = ("watermark",)
READS_CAPTION = False


def digest(settings: ScoreSettings) -> str:
    """Of the head and the model below it."""
    return head_digest("watermark", settings.watermark)


def open_scorer(settings: ScoreSettings) -> Scorer:
    """Read the head and its model.

    Raises:
        VidgenError: One of them cannot be read.

    """
    return Watermark(ClipHead(settings.watermark, read_logistic))


class Watermark:
    """Probability, 0 to 1."""

    def __init__(self, head: ClipHead) -> None:
        self._head = head

    def score(self, stills: Stills, caption: str) -> dict[str, float | None]:  # noqa: ARG002
        """See `Scorer`."""
        return {"watermark": float(self._head.probabilities(stills).mean())}
