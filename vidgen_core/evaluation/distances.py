"""Distances between two sets of features, in float64, with bootstrap intervals and the floor of real against real."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vidgen_core.frozen import Frozen

__all__ = ["Measurement", "frechet", "measure", "mmd"]

Features = NDArray[np.float64]


class Measurement(Frozen):
    """A number that can be trusted and compared.

    Args:
        name: What and how, with the number of samples.
        protocol: Hash of the feature protocol; two numbers compare only when it is the same.
        value: The distance.
        low, high: 90 % bootstrap interval over videos.
        floor: The same distance between two halves of the real clips, at the size of a half.
        n: Samples on each side.

    """

    name: str
    protocol: str
    value: float
    low: float
    high: float
    floor: float
    n: int


def frechet(a: Features, b: Features) -> float:
    """Frechet distance of the Gaussians fitted to two sets. Dowson and Landau 1982; Heusel et al. 2017 (1706.08500).

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), the last trace as the sum of singular values of the product of
    the centered data: exact also where a covariance is singular.
    """
    centered_a, centered_b = a - a.mean(0), b - b.mean(0)
    shift = float(np.sum((a.mean(0) - b.mean(0)) ** 2))
    scale_a, scale_b = np.sqrt(len(a) - 1), np.sqrt(len(b) - 1)
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


def measure(
    name: str,
    distance: Callable[[Features, Features], float],
    real: Features,
    made: Features,
    *,
    protocol: str,
    draws: int = 100,
) -> Measurement:
    """Distance of `made` from as many of `real`, both scaled by the deviation of the real features.

    The floor splits the real clips in two, so its sides are at most half as large; it is the mean over ten splits.
    """
    scale = real.std(0).clip(1e-8)
    real, made = real / scale, made / scale
    rng = np.random.default_rng(0)
    n = min(len(real), len(made))
    value = distance(real[rng.permutation(len(real))[:n]], made[:n])
    boots = []
    for _ in range(draws):
        boots.append(distance(real[rng.integers(len(real), size=n)], made[rng.integers(len(made), size=n)]))
    # The bootstrap is biased upward for these distances; its spread is what is wanted, about the value.
    low, high = np.quantile(np.array(boots) - np.mean(boots), [0.05, 0.95])
    half = min(n, len(real) // 2)
    floors = []
    for _ in range(10):
        order = rng.permutation(len(real))
        floors.append(distance(real[order[:half]], real[order[half : 2 * half]]))
    return Measurement(
        name=f"{name}/n{n}",
        protocol=protocol,
        value=value,
        low=value + float(min(low, 0.0)),
        high=value + float(max(high, 0.0)),
        floor=float(np.mean(floors)),
        n=n,
    )
