"""Text area by a detector: the share of a still whose text probability is above a threshold.

For detectors that give one map of probabilities for a picture, as Liao et al. 2020, "Real-time scene text detection
with differentiable binarization" (arXiv:1911.08947) and the detectors of PP-OCR do: input [1, 3, H, W] with ImageNet's
mean and deviation, H and W multiples of 32; output [1, 1, H, W].
"""

import numpy as np

from data_prep.score_settings import ScoreSettings
from data_prep.scorers._onnx import open_session, resized
from data_prep.scorers._weights import Scorer, Stills, file_digest
from vidgen_core import digests

__all__ = ["READS_CAPTION", "VERSION", "WRITES", "DetectedText", "digest", "open_scorer"]

VERSION = 1
WRITES = ("detected_text_area",)
READS_CAPTION = False

_LONGEST_PX = 960
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def digest(settings: ScoreSettings) -> str:
    """Of the model and the threshold."""
    own = settings.detected_text
    return digests.of_value([file_digest(own.weights, "detected_text"), own.threshold])


def open_scorer(settings: ScoreSettings) -> Scorer:
    """Read the model.

    Raises:
        VidgenError: It cannot be read.

    """
    return DetectedText(settings)


class DetectedText:
    """Mean share over the stills, 0 to 1."""

    def __init__(self, settings: ScoreSettings) -> None:
        own = settings.detected_text
        self._session, self._threshold = open_session(own.weights), own.threshold

    def score(self, stills: Stills, caption: str) -> dict[str, float | None]:  # noqa: ARG002
        """See `Scorer`."""
        return {"detected_text_area": float(np.mean([self._area(still) for still in stills]))}

    def _area(self, picture: np.ndarray) -> float:
        scale = min(1.0, _LONGEST_PX / max(picture.shape[:2]))
        height, width = (max(32, round(side * scale / 32) * 32) for side in picture.shape[:2])
        values = (resized(picture, height, width) / 255 - _MEAN) / _DEVIATION
        name = self._session.get_inputs()[0].name
        (probabilities,) = self._session.run(None, {name: values.transpose(2, 0, 1)[None]})
        return float((probabilities > self._threshold).mean())
