"""Mean and scatter of features, gathered in pieces: for sets that fit no memory, or lie on several workers."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments", "frechet_of"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """What a Gaussian fit needs of a set, float64.

    Attributes:
        count: Samples.
        mean: [D].
        scatter: Sum of outer products of the samples' distances from the mean, [D, D].

    """

    count: int
    mean: Array
    scatter: Array

    @classmethod
    def of(cls, features: NDArray[np.floating]) -> "Moments":
        """Moments of features [N, D]."""
        values = features.astype(np.float64)
        mean = values.mean(0)
        centered = values - mean
        return cls(len(values), mean, centered.T @ centered)

    @classmethod
    def of_pieces(cls, pieces: Iterable["Moments"]) -> "Moments":
        """Moments of all pieces together, whatever their sizes and order."""
        return reduce(cls.merged, pieces)

    def merged(self, other: "Moments") -> "Moments":
        """Moments of both sets. Chan, Golub and LeVeque 1983, eq. 2.1."""
        count = self.count + other.count
        apart = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(apart, apart) * (self.count * other.count / count)
        return Moments(count, self.mean + apart * (other.count / count), scatter)

    @property
    def covariance(self) -> Array:
        """[D, D], over N - 1."""
        return self.scatter / (self.count - 1)


def frechet_of(a: Moments, b: Moments) -> float:
    """Frechet distance of two Gaussian fits, as `distances.frechet` has it of the samples themselves.

    The trace of the root of C_a C_b is that of the root of C_a^(1/2) C_b C_a^(1/2), which is symmetric.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    crossed = np.linalg.eigvalsh(root @ b.covariance @ root).clip(0)
    shift = float(np.sum((a.mean - b.mean) ** 2))
    traces = float(np.trace(a.covariance) + np.trace(b.covariance))
    return max(0.0, shift + traces - 2 * float(np.sqrt(crossed).sum()))
