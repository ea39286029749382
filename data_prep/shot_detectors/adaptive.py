"""PySceneDetect's AdaptiveDetector: a change of content against the mean of the frames around it."""

from data_prep.shot_detectors._contract import Detector, ShotSettings
from data_prep.shot_detectors._scenedetect import SceneDetector

__all__ = ["VERSION", "open_detector"]

VERSION = 1
_THRESHOLD = 3.0  # times the mean change around it


def open_detector(settings: ShotSettings) -> Detector:
    """One for a source; `threshold` is its `adaptive_threshold`."""
    threshold = _THRESHOLD if settings.threshold is None else settings.threshold
    return SceneDetector("AdaptiveDetector", {"adaptive_threshold": threshold})
