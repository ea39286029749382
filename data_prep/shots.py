"""Shots of a source: what lies between the transitions that the chosen detector finds."""

from dataclasses import dataclass

from data_prep.shot_detectors._contract import ShotSettings, Thumbs, Transition
from vidgen_core import digests, discovery

__all__ = ["VERSION", "ShotFinder", "ShotSettings", "Shots", "Transition", "between", "version"]

VERSION = 2
_DETECTORS = "data_prep.shot_detectors"


@dataclass(frozen=True)
class Shots:
    """What a source is made of.

    Attributes:
        spans: Shots as frames [start, stop); frames inside a gradual transition belong to none.
        transitions: What separates them.

    """

    spans: list[tuple[int, int]]
    transitions: list[Transition]


class ShotFinder:
    """Finds the shots of one source while its frames come, in memory that does not grow with its length.

    Args:
        settings: Which detector, and how it is set.

    Raises:
        VidgenError: There is no such detector, or it lacks its package or its weights.

    """

    def __init__(self, settings: ShotSettings) -> None:
        self._detector = discovery.load(_DETECTORS, settings.detector).open_detector(settings)
        self._frames = 0

    def push(self, thumbs: Thumbs) -> None:
        """Take the next frames as RGB thumbnails [frames, 27, 48, 3]; any number at a time gives the same answer."""
        self._frames += len(thumbs)
        self._detector.push(thumbs)

    def finish(self) -> Shots:
        """The shots, once the last frame has come."""
        transitions = self._detector.finish()
        return Shots(between(transitions, self._frames), transitions)


def version(settings: ShotSettings) -> str:
    """What the shots depend on beside pictures and settings: this code, the detector's and its package's, and weights.

    Raises:
        VidgenError: As for `ShotFinder`; so a run that cannot find shots ends before its first source.

    """
    detector = discovery.load(_DETECTORS, settings.detector)
    detector.open_detector(settings)
    weights = "" if settings.weights is None else digests.of_file(settings.weights)
    return f"{VERSION} {settings.detector} {detector.VERSION} {weights}"


def between(transitions: list[Transition], frames: int) -> list[tuple[int, int]]:
    """What `frames` frames hold besides transitions, as spans [start, stop)."""
    spans, start = [], 0
    for transition in [*transitions, Transition(frames, frames)]:
        if transition.start > start:
            spans.append((start, transition.start))
        start = transition.stop
    return spans
