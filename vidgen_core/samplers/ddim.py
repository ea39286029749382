"""DDIM, first order: data and noise as predicted now, mixed for the next time. Song et al. 2020 (arXiv:2010.02502).

On straight paths this is Euler's method; on curved ones it is exact where the prediction does not change.
"""

from torch import Tensor

from vidgen_core.predictions import Denoise, Draw

__all__ = ["integrate"]


def integrate(denoise: Denoise, start: Tensor, times: Tensor, draw: Draw) -> Tensor:
    """From `start` along decreasing `times` [steps + 1], without chance (eta = 0)."""
    del draw
    x = start
    for now, then in zip(times[:-1], times[1:], strict=True):
        seen = denoise(x, now)
        x = seen.path.mix(seen.data, seen.noise, then)
    return x
