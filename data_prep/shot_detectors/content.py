"""PySceneDetect's ContentDetector: a change of hue, saturation and brightness above a fixed threshold."""

from data_prep.shot_detectors._contract import Detector, ShotSettings
from data_prep.shot_detectors._scenedetect import SceneDetector

__all__ = ["VERSION", "open_detector"]

VERSION = 1
_THRESHOLD = 27.0  # gray levels, the mean over hue, saturation and value


def open_detector(settings: ShotSettings) -> Detector:
    """One for a source; `threshold` is its `threshold`."""
    threshold = _THRESHOLD if settings.threshold is None else settings.threshold
    return SceneDetector("ContentDetector", {"threshold": threshold})
