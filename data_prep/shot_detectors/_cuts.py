"""Hard cuts: a change that stands out from its neighbors, that neither exposure nor motion explains, and that stays."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.shot_detectors._pictures import Pictures, light, matched

__all__ = ["WEIGHTS", "Candidates", "candidates", "surely"]

_NEAR = 3  # frames on each side that a cut stands out from
_FLASH = 5  # frames within which the old picture must come back for a change to be a flash
_SHORTEST = 2  # frames of a shot at an end of the film
_SAME = 4  # how many equal frames in a row are looked through for the neighbor that differs
_LEAST_CHANGE, _LEAST_FORM, _LEAST_RATIO = 2.0, 0.02, 0.8  # below these nothing is looked at more closely
_LEAST_UNMATCHED = 0.02  # of forms: else it was motion

# Logistic regression on logarithms, found by `tests/bench/fit_shots.py`.
WEIGHTS: dict[str, float] = {
    "change": 1.53,
    "near": -0.32,
    "far_side": 0.73,
    "form": 0.60,
    "form_if_low": -8.49,
    "near_form": 0.96,
    "far_side_form": -2.32,
    "unmatched": 3.94,
    "explained": -3.06,
    "order": 9.78,
    "within": -8.21,
    "returns": 8.20,
    "bias": -25.08,
}


class Candidates(NamedTuple):
    """Frames that may begin a shot [candidates], and logarithms in the order of `WEIGHTS` [candidates, features]."""

    frames: NDArray[np.intp]
    features: NDArray[np.float64]


def candidates(seen: Pictures, threshold: float = 0.0) -> Candidates:
    """Look for changes that stand out, and at what explains them.

    Those that cannot be as sure as `threshold` are left out before what costs most is looked at.
    """
    change, form = np.zeros(len(seen.cells)), np.zeros(len(seen.cells))
    change[1:] = np.abs(np.diff(seen.cells, axis=0)).mean(1)
    form[1:] = np.abs(np.diff(seen.forms, axis=0)).mean(1)
    sides, sides_form = _highest_near(change), _highest_near(form)
    stands_out = form > _LEAST_RATIO * (sides_form.max(0) + 0.02)
    stands_out[:_SHORTEST], stands_out[len(change) - _SHORTEST + 1 :] = False, False
    found = np.flatnonzero((change > _LEAST_CHANGE) & (form > _LEAST_FORM) & stands_out)
    unmatched = matched(seen.forms[found - 1], seen.forms[found])
    found, unmatched = found[unmatched > _LEAST_UNMATCHED], unmatched[unmatched > _LEAST_UNMATCHED]
    lit = light(seen, found - 1, found, change=change[found], form=form[found])
    columns = {
        "change": change[found] + 1,
        "near": sides[:, found].max(0) + 1,
        "far_side": sides[:, found].min(0) + 1,
        "form": form[found] + 0.01,
        "form_if_low": np.minimum(form[found] + 0.01, 0.11),  # unrelated pictures have a ceiling
        "near_form": sides_form[:, found].max(0) + 0.01,
        "far_side_form": sides_form[:, found].min(0) + 0.01,
        "unmatched": unmatched + 0.01,
        "explained": lit.explained + 0.05,
        "order": lit.order + 0.05,
        "within": _within(seen, change, found) + 0.01,
        "returns": unmatched + 0.01,  # at most
        "bias": np.full(len(found), np.e),
    }
    features = np.log(np.stack([columns[name] for name in WEIGHTS], axis=1, dtype=np.float64))
    possible = surely(Candidates(found, features)) >= threshold
    found, features = found[possible], features[possible]
    features[:, list(WEIGHTS).index("returns")] = np.log(_returns(seen, found, unmatched[possible]) + 0.01)
    return Candidates(found, features)


def surely(found: Candidates) -> NDArray[np.float64]:
    """Probability that each is a cut."""
    return 1 / (1 + np.exp(-(found.features @ np.array(list(WEIGHTS.values())))))


def _highest_near(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest value in the frames before and behind each frame [2, frames]."""
    out = np.zeros((2, len(values)))
    for step in range(1, min(_NEAR, len(values) - 1) + 1):
        out[0, step:] = np.maximum(out[0, step:], values[:-step])
        out[1, :-step] = np.maximum(out[1, :-step], values[step:])
    # At an end of the film one side is unknown; it is taken to be as lively as the other.
    out[0, :2], out[1, -1:] = out[1, :2], out[0, -1:]
    return out


def _within(seen: Pictures, change: NDArray[np.float64], found: NDArray[np.intp]) -> NDArray[np.float32]:
    """What motion leaves unmatched just before and just behind; repeated frames are looked through."""
    last = len(change) - 1
    before, behind = found - 1, found.copy()
    for _ in range(_SAME):
        before = np.where((change[before] < 0.5) & (before > 0) & (before > found - 1 - _SAME), before - 1, before)
        step = np.minimum(behind + 1, last)
        behind = np.where((change[step] < 0.5) & (behind < found + _SAME), step, behind)
    here = np.concatenate([np.maximum(before - 1, 0), found])
    there = np.concatenate([found - 1, np.minimum(behind + 1, last)])
    return matched(seen.forms[here], seen.forms[there]).reshape(2, -1).max(0)


def _returns(seen: Pictures, found: NDArray[np.intp], unmatched: NDArray[np.float32]) -> NDArray[np.float32]:
    """Least difference between a picture before the change and one soon behind it, or the other way round."""
    last = len(seen.forms) - 1
    steps = range(1, _FLASH)
    before = [found - 1 for _ in steps] + [np.maximum(found - 1 - step, 0) for step in steps]
    behind = [np.minimum(found + step, last) for step in steps] + [found for _ in steps]
    pairs = matched(seen.forms[np.concatenate(before)], seen.forms[np.concatenate(behind)])
    return np.minimum(unmatched, pairs.reshape(2 * len(steps), -1).min(0))
