"""Euler's method, first order: one velocity a step."""

from torch import Tensor

from vidgen_core.predictions import Denoise, Draw

__all__ = ["integrate"]


def integrate(denoise: Denoise, start: Tensor, times: Tensor, draw: Draw) -> Tensor:
    """Follow the velocity from `start` along decreasing `times` [steps + 1]."""
    del draw
    x = start
    for now, then in zip(times[:-1], times[1:], strict=True):
        seen = denoise(x, now)
        x = seen.path.travel(x, seen.velocity, now, then)
    return x
