"""Distances between two sets of features, in float64."""

import numpy as np
from numpy.typing import NDArray

from vidgen_core.evaluation.moments import Moments, frechet_of

__all__ = ["frechet", "mmd", "wasserstein"]

Features = NDArray[np.float64]


def frechet(a: Features, b: Features, *, freedom: int = 1) -> float:
    """Frechet distance of the Gaussians fitted to two sets, covariances over N - `freedom`; see `moments`."""
    return frechet_of(Moments.of(a), Moments.of(b), freedom=freedom)


def mmd(a: Features, b: Features) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3. Binkowski et al. 2018 (1801.01401)."""
    dim = a.shape[1]
    kernel_aa, kernel_bb, kernel_ab = ((x @ y.T / dim + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    n, m = len(a), len(b)
    within_a = (kernel_aa.sum() - np.trace(kernel_aa)) / (n * (n - 1))
    within_b = (kernel_bb.sum() - np.trace(kernel_bb)) / (m * (m - 1))
    return float(within_a + within_b - 2 * kernel_ab.mean())


def wasserstein(a: Features, b: Features) -> float:
    """Mean over dimensions of the distance of order one between the distributions of each; sets of equal size."""
    return float(np.abs(np.sort(a, axis=0) - np.sort(b, axis=0)).mean())
