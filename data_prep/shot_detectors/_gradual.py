"""Dissolves, fades and wipes: stretches in which every place goes straight from one picture to another, and then rests.

A dissolve mixes two pictures, a wipe replaces one by the other place by place: in both a place stays between its two
ends and goes there once, all over the picture. Under motion places wander, a passer-by changes only some, and an
exposure changes levels but not the order of them. Each of these has its gate; what passes them all is weighed together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.shot_detectors._pictures import Pictures, Vectors, light, matched

__all__ = ["GRID", "REACH", "WEIGHTS", "Stretches", "stretches", "surely", "wholly"]

_HALVES = (3, 4, 6, 8, 12, 16, 24, 32)  # half the length of the stretches looked at, in frames
GRID = 24  # frames; a multiple of the steps between the middles of stretches, each a quarter of a half
REACH = 4 * _HALVES[-1]  # frames on each side that a verdict may depend on

_LEAST_DISTANCE = 3.0  # gray levels from end to end
_MOST_OUTSIDE = 0.8  # of that distance: gone within half a length before or behind; else it goes on moving
_LEAST_STRAIGHT, _LEAST_STRAIGHT_IN_STEPS = 0.5, 0.2  # distance over the way in four legs, or in steps of a frame
_MOST_IN_ONE_STEP = 0.85  # of the distance: else it is a cut
_MOST_OVERSHOOT = 0.2  # of the distance: how far places leave the range between their ends
_MOST_MISFIT = 0.4  # of the distance: middle against the mean of the ends, or against the nearer end place by place
_LEAST_MEDIAN = 0.5  # of the mean: change of the median place; else only a part of the picture changed
_LEAST_FORM, _LEAST_UNMATCHED = 0.12, 0.1  # of forms: else both ends show one scene
_LEAST_UNEXPLAINED = 0.5  # of the change over half of it: else the camera pans

# Logistic regression on logarithms, found by `tests/bench/fit_shots.py`: weights of "this is a transition", and of
# "this is all of it and no more".
WEIGHTS: dict[str, tuple[float, float]] = {
    "distance": (1.83, 0.97),
    "outside": (0.18, -1.32),
    "far_outside": (-1.29, -1.08),
    "straight_in_four": (2.36, 3.82),
    "straight": (-7.74, -7.00),
    "steepest": (-7.34, -5.80),
    "overshoot": (-1.38, 0.83),
    "bend": (-1.54, -1.01),
    "misfit": (-0.67, 0.03),
    "everywhere": (0.95, -1.72),
    "form": (-1.85, 3.02),
    "explained": (-0.40, 0.44),
    "order": (0.55, -0.61),
    "unmatched": (0.87, -1.47),
    "returns": (5.71, 0.97),
    "unexplained": (1.03, -3.27),
    "unexplained_in_half": (4.17, 0.91),
    "half": (-5.71, -4.57),
    "bias": (-6.07, -5.41),
}


class Stretches(NamedTuple):
    """Stretches whose ends may belong to two shots, from the last frame of the one to the first of the other.

    Attributes:
        starts, stops: Those frames [stretches].
        features: Logarithms, in the order of `WEIGHTS` [stretches, features].

    """

    starts: NDArray[np.intp]
    stops: NDArray[np.intp]
    features: NDArray[np.float64]


def stretches(seen: Pictures, threshold: float = 0.0) -> Stretches:
    """Look for stretches of all lengths that pass every gate.

    Those that cannot be as sure as `threshold` are left out before what costs most is looked at.
    """
    change = np.r_[0.0, np.abs(np.diff(seen.cells, axis=0)).mean(1)]
    parts = [_of_length(seen, change, half) for half in _HALVES]
    left = _joined(parts)
    left.columns |= {"half": left.halves.astype(np.float64), "bias": np.full(len(left.middles), np.e)}
    _another_scene(seen, left)
    _possible(seen, left, threshold)
    _for_good(seen, left)
    return _weighable(left)


def _weighable(left: "_Survivors") -> Stretches:
    features = np.log(np.stack([left.columns[name] for name in WEIGHTS], axis=1, dtype=np.float64))
    return Stretches(left.starts, left.stops, features)


def surely(found: Stretches) -> NDArray[np.float64]:
    """Probability that each is, or is within, a transition."""
    return _logistic(found, 0)


def wholly(found: Stretches) -> NDArray[np.float64]:
    """Probability that a stretch within a transition is all of it."""
    return _logistic(found, 1)


def _logistic(found: Stretches, head: int) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-(found.features @ np.array([pair[head] for pair in WEIGHTS.values()]))))


@dataclass
class _Survivors:
    """Stretches that passed the gates so far, and their features so far."""

    middles: NDArray[np.intp]
    halves: NDArray[np.intp]
    columns: dict[str, NDArray[np.floating]]

    @property
    def starts(self) -> NDArray[np.intp]:
        return self.middles - self.halves

    @property
    def stops(self) -> NDArray[np.intp]:
        return self.middles + self.halves

    @property
    def legs(self) -> tuple[NDArray[np.intp], ...]:
        """Frames at a quarter, at half and at three quarters."""
        quarters = np.maximum(1, self.halves // 2)
        return self.starts + quarters, self.middles, self.middles + quarters

    def keep(self, good: NDArray[np.bool_]) -> None:
        self.middles, self.halves = self.middles[good], self.halves[good]
        self.columns = {name: column[good] for name, column in self.columns.items()}


def _of_length(seen: Pictures, change: NDArray[np.float64], half: int) -> _Survivors:
    middles = np.arange(half, len(change) - half, max(1, half // 4))
    left = _Survivors(middles, np.full(len(middles), half), {})
    _at_rest_outside(seen.cells, left)
    _straight(seen.cells, change, left)
    _between_its_ends(seen.cells, left)
    return left


def _joined(parts: list[_Survivors]) -> _Survivors:
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    middles = np.concatenate([part.middles for part in parts])
    return _Survivors(middles, np.concatenate([part.halves for part in parts]), columns)


def _distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.abs(a - b).mean(1)


def _at_rest_outside(cells: Vectors, left: _Survivors) -> None:
    """The distance, and what is gone in half a length before and behind; at an end of the film, the other side's."""
    left.columns["distance"] = _distance(cells[left.starts], cells[left.stops])
    left.keep(left.columns["distance"] > _LEAST_DISTANCE)
    last, distance = len(cells) - 1, left.columns["distance"]
    before = _distance(cells[np.maximum(left.starts - left.halves, 0)], cells[left.starts])
    behind = _distance(cells[left.stops], cells[np.minimum(left.stops + left.halves, last)])
    most = np.maximum(before, behind)
    before = np.where(left.starts < left.halves, most, before)
    behind = np.where(left.stops + left.halves > last, most, behind)
    left.columns["outside"] = most / distance + 0.05
    left.columns["far_outside"] = np.minimum(before, behind) / distance + 0.05
    left.keep(most < _MOST_OUTSIDE * distance)


def _straight(cells: Vectors, change: NDArray[np.float64], left: _Survivors) -> None:
    """The distance over the way, in four legs and in single steps, and the steepest step."""
    stations = (left.starts, *left.legs, left.stops)
    in_four = sum(_distance(cells[a], cells[b]) for a, b in zip(stations, stations[1:], strict=False))
    steps = change[left.starts[:, None] + _inside(left)]
    distance = left.columns["distance"]
    left.columns["straight_in_four"] = distance / in_four
    left.columns["straight"] = distance / steps.sum(1)
    left.columns["steepest"] = steps.max(1) / distance + 0.02
    straight = (distance > _LEAST_STRAIGHT * in_four) & (left.columns["straight"] > _LEAST_STRAIGHT_IN_STEPS)
    left.keep(straight & (steps.max(1) < _MOST_IN_ONE_STEP * distance))


def _inside(left: _Survivors) -> NDArray[np.intp]:
    """Steps from one frame to the next, counted from the start; all stretches are of one length here."""
    return np.arange(1, (2 * int(left.halves[0]) if len(left.halves) else 1) + 1)


def _between_its_ends(cells: Vectors, left: _Survivors) -> None:
    """How far places stray from a dissolve or a wipe, and how much of the picture changes."""
    first, final, middle = cells[left.starts], cells[left.stops], cells[left.middles]
    bend = _distance(middle, (first + final) / 2) / left.columns["distance"]
    switched = np.minimum(np.abs(middle - first), np.abs(middle - final)).mean(1) / left.columns["distance"]
    left.columns["bend"] = bend + 0.05
    left.columns["misfit"] = np.minimum(bend, switched) + 0.05
    left.keep(np.minimum(bend, switched) < _MOST_MISFIT)
    first, final = cells[left.starts], cells[left.stops]
    mean, room = (first + final) / 2, np.abs(final - first) / 2
    strayed = sum(np.maximum(0, np.abs(cells[at] - mean) - room).mean(1) for at in left.legs)
    strayed /= 3 * left.columns["distance"]
    everywhere = np.median(room, axis=1) / room.mean(1)
    left.columns["overshoot"] = strayed + 0.02
    left.columns["everywhere"] = everywhere + 0.05
    left.keep((strayed < _MOST_OVERSHOOT) & (everywhere > _LEAST_MEDIAN))


def _another_scene(seen: Pictures, left: _Survivors) -> None:
    """Whether both ends are one scene seen from elsewhere or in another light."""
    form = _distance(seen.forms[left.starts], seen.forms[left.stops])
    lit = light(seen, left.starts, left.stops, change=left.columns["distance"], form=form)
    left.columns |= {"form": form + 0.01, "explained": lit.explained + 0.05, "order": lit.order + 0.05}
    left.keep((form > _LEAST_FORM) & ~lit.alone(form))
    unmatched = matched(seen.forms[left.starts], seen.forms[left.stops])
    left.columns["unmatched"] = unmatched + 0.01
    left.keep(unmatched > _LEAST_UNMATCHED)


def _possible(seen: Pictures, left: _Survivors, threshold: float) -> None:
    """What can become surer than the threshold: blocks that may move never differ more than blocks that stay."""
    most = np.ones(len(left.halves))
    left.columns |= {"unexplained_in_half": most, "unexplained": most}
    left.columns["returns"] = _returns(seen, left, _distance) + 0.01
    left.keep(surely(_weighable(left)) >= threshold)


def _for_good(seen: Pictures, left: _Survivors) -> None:
    """Whether motion, or something that passes by, explains what is around the ends."""
    left.columns["unexplained_in_half"] = _unexplained(seen, left.legs[:1], left.halves)
    left.keep(left.columns["unexplained_in_half"] > _LEAST_UNEXPLAINED)
    left.columns["unexplained"] = _unexplained(seen, left.legs, np.ones_like(left.halves))
    left.columns["returns"] = _returns(seen, left, matched) + 0.01


def _returns(
    seen: Pictures, left: _Survivors, compare: Callable[[Vectors, Vectors], NDArray[np.floating]]
) -> NDArray[np.floating]:
    """Least difference between the picture before and one soon behind, or the other way round: something passed by."""
    last = len(seen.forms) - 1
    steps = (left.halves // 2 + 1, left.halves, 2 * left.halves)
    before = [left.starts] * 3 + [np.maximum(left.starts - step, 0) for step in steps]
    behind = [np.minimum(left.stops + step, last) for step in steps] + [left.stops] * 3
    pairs = compare(seen.forms[np.concatenate(before)], seen.forms[np.concatenate(behind)])
    return pairs.reshape(6, -1).min(0)


def _unexplained(seen: Pictures, places: tuple[NDArray[np.intp], ...], steps: NDArray[np.intp]) -> NDArray[np.floating]:
    """Share of the changes over `steps` frames from all places that is left when blocks may move."""
    here = seen.forms[np.concatenate(places)]
    there = seen.forms[np.concatenate([at + steps for at in places])]
    left, whole = matched(here, there), _distance(here, there)
    return (left.reshape(len(places), -1).sum(0) + 0.01) / (whole.reshape(len(places), -1).sum(0) + 0.01)
