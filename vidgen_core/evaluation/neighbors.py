"""What nearest neighbors tell of two sets: how real the made clips look, and how much of the real ones they cover."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["coverage", "density", "diversity", "memorization", "nearest", "precision", "recall"]

Features = NDArray[np.float64]


def precision(real: Features, made: Features, *, neighbors: int = 5) -> float:
    """Share of made samples inside a ball that reaches from a real sample to its k-th real neighbor.

    Kynkaanniemi et al. 2019 (arXiv:1904.06991), eq. 1 and 2. One outlier among the real samples raises it.
    """
    return float((_apart(real, made) <= _radii(real, neighbors)[:, None]).any(0).mean())


def recall(real: Features, made: Features, *, neighbors: int = 5) -> float:
    """Share of real samples inside such a ball of a made sample: precision with the sets exchanged."""
    return precision(made, real, neighbors=neighbors)


def density(real: Features, made: Features, *, neighbors: int = 5) -> float:
    """How many real balls a made sample lies in, over k; 1 for equal distributions. Naeem et al. 2020 (2002.09797)."""
    inside = _apart(real, made) <= _radii(real, neighbors)[:, None]
    return float(inside.sum(0).mean() / neighbors)


def coverage(real: Features, made: Features, *, neighbors: int = 5) -> float:
    """Share of real samples whose ball holds a made sample. Naeem et al. 2020 (arXiv:2002.09797), eq. 8."""
    return float((_apart(real, made).min(1) <= _radii(real, neighbors)).mean())


def memorization(trained: Features, held_out: Features, made: Features) -> float:
    """Median distance of made samples from the nearest training sample, over that of held-out ones.

    Near 1 for a generator that learned the distribution; toward 0 for one that repeats its training clips.
    """
    ours = float(np.median(_apart(trained, made).min(0)))
    theirs = float(np.median(_apart(trained, held_out).min(0)))
    return ours / max(theirs, np.finfo(np.float64).tiny)


def diversity(real: Features, made: Features) -> float:
    """Mean distance of two made samples over that of two real ones: toward 0 where samples are alike."""
    return _spread(made) / max(_spread(real), np.finfo(np.float64).tiny)


def nearest(trained: Features, held_out: Features, made: Features) -> tuple[NDArray[np.intp], Features]:
    """For each made sample its nearest training sample [N], and its distance over a held-out sample's median one [N].

    A ratio far below 1 is a copy.
    """
    apart = _apart(trained, made)
    healthy = float(np.median(_apart(trained, held_out).min(0)))
    return apart.argmin(0), apart.min(0) / max(healthy, np.finfo(np.float64).tiny)


def _spread(features: Features) -> float:
    """Mean distance of two different samples."""
    return float(_apart(features, features).sum() / (len(features) * (len(features) - 1)))


def _radii(features: Features, neighbors: int) -> Features:
    """Distance of each sample from its k-th neighbor in its own set, [N]."""
    if not 0 < neighbors < len(features):
        raise ValueError(f"{neighbors} neighbors of {len(features)} samples")
    apart = _apart(features, features)
    np.fill_diagonal(apart, 0.0)
    return np.partition(apart, neighbors, axis=1)[:, neighbors]


def _apart(a: Features, b: Features) -> Features:
    """Euclidean distances [len(a), len(b)]."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.sqrt(squares.clip(0))
