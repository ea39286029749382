"""Distances between two sets of features, in float64."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["frechet", "mmd", "wasserstein"]

Features = NDArray[np.float64]


def frechet(a: Features, b: Features, *, freedom: int = 1) -> float:
    """Frechet distance of the Gaussians fitted to two sets. Dowson and Landau 1982; Heusel et al. 2017 (1706.08500).

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), the last trace as the sum of singular values of the product of
    the centered data: exact also where a covariance is singular. Covariances are over N - `freedom`.
    """
    centered_a, centered_b = a - a.mean(0), b - b.mean(0)
    shift = float(np.sum((a.mean(0) - b.mean(0)) ** 2))
    scale_a, scale_b = np.sqrt(len(a) - freedom), np.sqrt(len(b) - freedom)
    traces = float((centered_a**2).sum() / scale_a**2 + (centered_b**2).sum() / scale_b**2)
    # tr (C_a C_b)^(1/2) is the nuclear norm of A B^T for any factors A^T A = C_a, B^T B = C_b.
    factor_a = np.linalg.qr(centered_a / scale_a)[1]
    factor_b = np.linalg.qr(centered_b / scale_b)[1]
    return max(0.0, shift + traces - 2 * float(np.linalg.svd(factor_a @ factor_b.T, compute_uv=False).sum()))


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
