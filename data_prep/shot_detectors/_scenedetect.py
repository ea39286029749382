"""The door to PySceneDetect, whose detectors are fed our thumbnails instead of decoding the file again."""

from collections.abc import Callable
from typing import Any

import numpy as np

from data_prep.shot_detectors._contract import Thumbs, Transition
from vidgen_core.errors import VidgenError

__all__ = ["SceneDetector"]

_RATE = 30.0  # only counts frames: the detectors' least scene length is given in frames


class SceneDetector:
    """A detector of PySceneDetect behind our contract; it knows hard cuts only.

    Args:
        name: Its class in `scenedetect.detectors`.
        settings: Its arguments.

    Raises:
        VidgenError: PySceneDetect is not installed.

    """

    def __init__(self, name: str, settings: dict[str, float]) -> None:
        self._at, detector = _open(name, settings)
        self._detector = detector
        self._cuts: list[int] = []
        self._seen_frames = 0

    def push(self, thumbs: Thumbs) -> None:
        """Take the next frames."""
        for picture in np.ascontiguousarray(thumbs[..., ::-1]):  # its order of colors is OpenCV's, blue first
            found = self._detector.process_frame(self._at(self._seen_frames), picture)
            self._cuts += [cut.frame_num for cut in found]
            self._seen_frames += 1

    def finish(self) -> list[Transition]:
        """The cuts."""
        if self._seen_frames:
            found = self._detector.post_process(self._at(self._seen_frames))
            self._cuts += [cut.frame_num for cut in found]
        return [Transition(cut, cut) for cut in sorted(set(self._cuts)) if cut > 0]


def _open(name: str, settings: dict[str, float]) -> tuple[Callable[[int], Any], Any]:
    try:
        import scenedetect
        from scenedetect import detectors
    except ImportError as error:
        raise VidgenError(
            f"The shot detector {name} needs PySceneDetect",
            got=str(error),
            move="Install it: pip install 'vidgen[shots]'",
        ) from error
    return lambda frame: scenedetect.FrameTimecode(frame, _RATE), getattr(detectors, name)(**settings)
