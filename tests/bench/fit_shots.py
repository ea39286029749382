"""Find the weights of the thumbnail detector on the films of the set `tune`, and print them as they stand in its files.

    python -m tests.bench.fit_shots --videos VIDEOS --films FILMS

VIDEOS is a folder with the clips that `shot_films.py` names, FILMS one for the films, made where they are missing.
"""
# ruff: noqa: T201

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from data_prep.shot_detectors import _cuts, _gradual
from data_prep.shot_detectors._pictures import pictures
from tests.bench import shot_films

_ROUNDS = 7
_LIGHT = ("gain", "flash", "occluder", "exposure", "strobe")  # films without cuts that count twice for `_cuts`
_DRAG = 0.05  # of squared weights
_WHOLE, _PART, _OUTSIDE = 0.6, 0.5, 0.2  # overlap over union; share of a stretch that is within a transition
_FALSE_COUNTS = 2.5  # a false transition costs so much more than a missed one


def main() -> None:
    """Fit and print."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--videos", type=Path, required=True)
    asked.add_argument("--films", type=Path, required=True)
    folders = asked.parse_args()
    films = [
        *shot_films.films("tune", _ROUNDS, folders.videos, folders.films),
        *shot_films.shots("tune", folders.videos),
    ]
    seen = [(film, pictures(film.thumbs)) for film in films]
    heads = fit([(film, _cuts.candidates(look), _gradual.stretches(look)) for film, look in seen])
    _show(_cuts.WEIGHTS, heads[0])
    _show(_gradual.WEIGHTS, *heads[1:])


def fit(
    films: list[tuple[shot_films.Seen, _cuts.Candidates, _gradual.Stretches]],
) -> tuple[NDArray, NDArray, NDArray]:
    """Weights of "is a cut", of "is a transition" and of "is all of it"."""
    columns = zip(*(_labeled_cuts(film, found) for film, found, _ in films), strict=True)
    hard = _logistic(*(np.concatenate(column) for column in columns))
    columns = zip(*(_labeled_stretches(film, found) for film, _, found in films), strict=True)
    x, overlap, inside = (np.concatenate(column) for column in columns)
    whole = overlap >= _WHOLE
    apart, sure = (inside < _OUTSIDE), (overlap >= _WHOLE - 0.05)
    part = (inside >= _OUTSIDE) & (overlap < _PART)
    slow = _logistic(x[apart | sure], sure[apart | sure], np.where(sure, 1, _FALSE_COUNTS)[apart | sure])
    return hard, slow, _logistic(x[whole | part], whole[whole | part], np.ones(int((whole | part).sum())))


def _labeled_cuts(film: shot_films.Seen, found: _cuts.Candidates) -> tuple[NDArray, NDArray, NDArray]:
    hard = {cut["frame"] for cut in film.cuts if cut["type"] == "hard"}
    spans = [(cut["start"] - 2, cut["end"] + 2) for cut in film.cuts if cut["type"] != "hard"]
    clear = np.array([not any(a <= frame < b for a, b in spans) for frame in found.frames], bool)
    counts = 2.0 if any(f"none_{kind}" in film.name for kind in _LIGHT) else 1.0
    labels = np.array([frame in hard for frame in found.frames.tolist()], bool)
    return found.features[clear], labels[clear], np.full(int(clear.sum()), counts)


def _labeled_stretches(film: shot_films.Seen, found: _gradual.Stretches) -> tuple[NDArray, NDArray, NDArray]:
    slow = [(cut["start"] - 1, cut["end"], cut["type"]) for cut in film.cuts if cut["type"] != "hard"]
    goals = [span for start, stop, kind in slow for span in _goals(start, stop, kind)]
    spans = goals + [(start, stop) for start, stop, _ in slow]
    ends = list(zip(found.starts.tolist(), found.stops.tolist(), strict=True))
    overlap = [max((_common(end, goal) / _union(end, goal) for goal in goals), default=0) for end in ends]
    inside = [max((_common(end, span) / (end[1] - end[0]) for span in spans), default=0) for end in ends]
    return found.features, np.array(overlap, float), np.array(inside, float)


def _goals(start: int, stop: int, kind: str) -> list[tuple[int, int]]:
    """A fade through a color is found as two transitions, which are joined."""
    middle = (start + stop) // 2
    return [(start, middle), (middle, stop)] if kind.startswith("fade_") else [(start, stop)]


def _common(a: tuple[int, int], b: tuple[int, int]) -> int:
    return max(0, min(a[1], b[1]) - max(a[0], b[0]))


def _union(a: tuple[int, int], b: tuple[int, int]) -> int:
    return max(a[1], b[1]) - min(a[0], b[0])


def _logistic(x: NDArray, labels: NDArray, counts: NDArray) -> NDArray:
    """Weights; the last feature is the bias, which is not dragged to zero."""
    y, free = labels.astype(float), np.r_[np.ones(x.shape[1] - 1), 0]

    def loss(weights: NDArray) -> tuple[float, NDArray]:
        scores = x @ weights
        cost = (counts * (np.logaddexp(0, scores) - y * scores)).sum() + _DRAG * (free * weights**2).sum()
        return cost, x.T @ (counts * (1 / (1 + np.exp(-scores)) - y)) + 2 * _DRAG * free * weights

    return minimize(loss, np.zeros(x.shape[1]), jac=True).x


def _show(names: dict, *heads: NDArray) -> None:
    for place, name in enumerate(names):
        values = ", ".join(f"{head[place]:.2f}" for head in heads)
        print(f'    "{name}": {values if len(heads) == 1 else f"({values})"},')
    print()


if __name__ == "__main__":
    main()
