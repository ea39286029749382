"""Our own detector: hard cuts, dissolves, fades and wipes from thumbnails; no flash, exposure, shake or passer-by.

Two questions are asked of the film, in `_cuts.py` and `_gradual.py`; here their answers are put together, and a film of
any length is cut into overlapping chunks, so that memory does not grow with it.
"""

import numpy as np

from data_prep.shot_detectors import _cuts, _gradual
from data_prep.shot_detectors._contract import Detector, ShotSettings, Thumbs, Transition
from data_prep.shot_detectors._pictures import Pictures, matched, pictures

__all__ = ["CHUNK_FRAMES", "VERSION", "open_detector", "transitions"]

VERSION = 1
_THRESHOLD = 0.5
# Multiples of every step that `_gradual` looks in, so that a film is looked at alike wherever its chunks begin.
CHUNK_FRAMES, _MARGIN_FRAMES = 43 * _gradual.GRID, 11 * _gradual.GRID
_LEAST_APART = 5  # frames between a cut and a gradual transition
_LONGEST_PLAIN = 12  # frames of black between a fade out and a fade in that make one transition
_PLAIN = 10.0  # gray levels of deviation below which a picture is a plain color
_SAME_SCENE = 0.07  # of forms


def open_detector(settings: ShotSettings) -> Detector:
    """One for a source; `threshold` is the probability above which a candidate is a transition."""
    return _Chunks(_THRESHOLD if settings.threshold is None else settings.threshold)


class _Chunks:
    """Holds a chunk and its margins; borders of chunks do not depend on how the frames come."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._held: list[Thumbs] = []
        self._held_frames = self._first = self._decided = 0
        self._found: list[Transition] = []

    def push(self, thumbs: Thumbs) -> None:
        """Take the next frames."""
        for at in range(0, len(thumbs), CHUNK_FRAMES):
            part = thumbs[at : at + CHUNK_FRAMES]
            self._held.append(part)
            self._held_frames += len(part)
            while self._first + self._held_frames >= self._decided + CHUNK_FRAMES + _MARGIN_FRAMES:
                self._decide(self._decided + CHUNK_FRAMES)

    def finish(self) -> list[Transition]:
        """All transitions."""
        self._decide(self._first + self._held_frames)
        return self._found

    def _decide(self, stop: int) -> None:
        """Settle what begins in frames [decided, stop), and let go of what no later answer needs."""
        if not self._held_frames:
            return
        held = np.concatenate(self._held)
        stretch = held[: stop + _MARGIN_FRAMES - self._first]
        for found in transitions(stretch, self._threshold):
            moved = Transition(found.start + self._first, found.stop + self._first)
            apart = not self._found or moved.start > self._found[-1].stop
            if self._decided <= moved.start < stop and apart:
                self._found.append(moved)
        self._decided = stop
        kept = max(0, stop - _MARGIN_FRAMES - self._first)
        self._held, self._first = [held[kept:]], self._first + kept
        self._held_frames = len(held) - kept


def transitions(thumbs: Thumbs, threshold: float = _THRESHOLD) -> list[Transition]:
    """All transitions of a stretch that is short enough to look at as a whole."""
    if len(thumbs) < 3:
        return []
    seen = pictures(thumbs)
    found = _cuts.candidates(seen, threshold)
    scores = _cuts.surely(found)
    answers = [
        (float(score), Transition(int(frame), int(frame)))
        for score, frame in zip(scores, found.frames, strict=True)
        if score > threshold
    ]
    slow = _gradual.stretches(seen, threshold)
    sure, whole = _gradual.surely(slow), _gradual.wholly(slow)
    answers += [
        # A stretch goes from the last frame of the one shot to the first of the other.
        (float(sure[k] * whole[k]), Transition(int(slow.starts[k]) + 1, int(slow.stops[k])))
        for k in np.flatnonzero(sure > threshold)
    ]
    return _joined_fades(_without_edges(_best(answers)), seen)


def _best(answers: list[tuple[float, Transition]]) -> list[Transition]:
    """The surest answers that do not touch a surer one."""
    taken: list[Transition] = []
    for _, answer in sorted(answers, key=lambda scored: (-scored[0], scored[1])):
        if all(answer.start > other.stop or answer.stop < other.start for other in taken):
            taken.append(answer)
    return sorted(taken)


def _without_edges(found: list[Transition]) -> list[Transition]:
    """The first or the last step of a wipe may look like a cut of its own; no shot is as short as what is between."""
    out: list[Transition] = []
    for answer in found:
        last = out[-1] if out else answer
        if last.hard != answer.hard and answer.start - last.stop <= _LEAST_APART:
            out[-1] = Transition(last.start, answer.stop)
        else:
            out.append(answer)
    return out


def _joined_fades(found: list[Transition], seen: Pictures) -> list[Transition]:
    """A fade out and the fade in behind it are one; a flash of the same scene is none."""
    out: list[Transition] = []
    for answer in found:
        last = out[-1] if out else None
        if last is None or (last.hard and answer.hard) or not _plain(seen, last.stop, answer.start):
            out.append(answer)
            continue
        out.pop()
        joined = Transition(last.start, answer.stop)
        ends = seen.forms[[max(joined.start - 1, 0)]], seen.forms[[min(joined.stop, len(seen.forms) - 1)]]
        if matched(*ends)[0] > _SAME_SCENE:
            out.append(joined)
    return out


def _plain(seen: Pictures, start: int, stop: int) -> bool:
    return stop - start <= _LONGEST_PLAIN and bool(seen.spread[start - 1 : stop + 1].min() < _PLAIN)
