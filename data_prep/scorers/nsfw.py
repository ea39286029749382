"""Probability that a still is not safe for work: a logistic head over CLIP, as Stability AI publishes it.

The head takes embeddings as the model gives them, without making their length one; the worst still counts.
"""

from data_prep.score_settings import ScoreSettings
from data_prep.scorers._weights import ClipHead, Scorer, Stills, head_digest, read_logistic

__all__ = ["READS_CAPTION", "VERSION", "WRITES", "Nsfw", "digest", "open_scorer"]

VERSION = 1
WRITES = ("nsfw",)
READS_CAPTION = False


def digest(settings: ScoreSettings) -> str:
    """Of the head and the model below it."""
    return head_digest("nsfw", settings.nsfw)


def open_scorer(settings: ScoreSettings) -> Scorer:
    """Read the head and its model.

    Raises:
        VidgenError: One of them cannot be read.

    """
    return Nsfw(ClipHead(settings.nsfw, read_logistic))


class Nsfw:
    """Probability, 0 to 1."""

    def __init__(self, head: ClipHead) -> None:
        self._head = head

    def score(self, stills: Stills, caption: str) -> dict[str, float | None]:  # noqa: ARG002
        """See `Scorer`."""
        return {"nsfw": float(self._head.probabilities(stills).max())}
