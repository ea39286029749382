"""Agreement of a span with its caption: mean cosine of CLIP embeddings.

Hessel et al. 2021, "CLIPScore" (arXiv:2104.08718). The cosine itself is kept, not 2.5 times its positive part, so that
thresholds are those that others publish.
"""

import numpy as np

from data_prep.score_settings import ScoreSettings
from data_prep.scorers._weights import Scorer, Stills, named_digest
from vidgen_core import digests

__all__ = ["READS_CAPTION", "VERSION", "WRITES", "TextVideoMatch", "digest", "open_scorer"]

VERSION = 1
WRITES = ("text_video_match",)
READS_CAPTION = True


def digest(settings: ScoreSettings) -> str:
    """Of the model."""
    own = settings.text_video_match
    return digests.of_value([own.model, named_digest(own.weights)])


def open_scorer(settings: ScoreSettings) -> Scorer:
    """Read the model.

    Raises:
        VidgenError: It cannot be read.

    """
    return TextVideoMatch(settings)


class TextVideoMatch:
    """Cosine of the caption with the stills, -1 to 1; null without a caption."""

    def __init__(self, settings: ScoreSettings) -> None:
        from data_prep.clip_models import open_clip_model

        self._clip = open_clip_model(settings.text_video_match.model, settings.text_video_match.weights)

    def score(self, stills: Stills, caption: str) -> dict[str, float | None]:
        """See `Scorer`."""
        if not caption:
            return {"text_video_match": None}
        pictures, text = self._clip.pictures(stills), self._clip.text(caption)
        lengths = np.linalg.norm(pictures, axis=1) * np.linalg.norm(text)
        return {"text_video_match": float((pictures @ text / lengths).mean())}
