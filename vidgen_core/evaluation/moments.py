"""Mean and spread of features, float64, of a whole set or of pieces of it, which may lie on several workers."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments", "frechet_of"]

Array = NDArray[np.float64]
# Of a larger set pieces of so many samples are taken together, so that no copy of it is made.
_PIECE = 16_384


@dataclass(frozen=True)
class Moments:
    """What a Gaussian fit needs of a set.

    Attributes:
        count: Samples.
        mean: [D].
        factor: Triangular R [at most D, D] of the samples' distances from the mean, R^T R the sum of their outer
            products. Unlike that sum it is as exact where a covariance is singular.

    """

    count: int
    mean: Array
    factor: Array

    @classmethod
    def of(cls, features: NDArray[np.floating]) -> "Moments":
        """Moments of features [N, D]."""
        return cls.of_pieces(
            cls._of_piece(features[start : start + _PIECE].astype(np.float64))
            for start in range(0, len(features), _PIECE)
        )

    @classmethod
    def of_pieces(cls, pieces: Iterable["Moments"]) -> "Moments":
        """Moments of all pieces together, whatever their sizes and order."""
        return reduce(cls.merged, pieces)

    @classmethod
    def _of_piece(cls, values: Array) -> "Moments":
        mean = values.mean(0)
        return cls(len(values), mean, _triangle(values - mean))

    def merged(self, other: "Moments") -> "Moments":
        """Moments of both sets: Chan, Golub and LeVeque 1983, eq. 2.1, with factors as Demmel et al. 2012 join them."""
        count = self.count + other.count
        apart = other.mean - self.mean
        between = apart * np.sqrt(self.count * other.count / count)
        factor = _triangle(np.vstack([self.factor, other.factor, between]))
        return Moments(count, self.mean + apart * (other.count / count), factor)

    def root(self, freedom: int = 1) -> Array:
        """A factor of the covariance over N - `freedom`: C = A^T A."""
        return self.factor / np.sqrt(self.count - freedom)


def _triangle(rows: Array) -> Array:
    return cast(Array, np.linalg.qr(rows, mode="r"))  # stubs take every mode for one with a Q


def frechet_of(a: Moments, b: Moments, *, freedom: int = 1) -> float:
    """Frechet distance of two Gaussian fits. Dowson and Landau 1982; Heusel et al. 2017 (1706.08500).

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), covariances over N - `freedom`. The last trace is the nuclear
    norm of A B^T for any factors A^T A = C_a, B^T B = C_b.
    """
    root_a, root_b = a.root(freedom), b.root(freedom)
    shift = float(np.sum((a.mean - b.mean) ** 2))
    traces = float(np.sum(root_a**2) + np.sum(root_b**2))
    return max(0.0, shift + traces - 2 * float(np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()))
