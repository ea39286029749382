"""The midpoint method, second order: the velocity half a step ahead."""

from torch import Tensor

from vidgen_core.predictions import Denoise, Draw

__all__ = ["integrate"]


def integrate(denoise: Denoise, start: Tensor, times: Tensor, draw: Draw) -> Tensor:
    """Follow the velocity from `start` along decreasing `times` [steps + 1]."""
    del draw
    x = start
    for now, then in zip(times[:-1], times[1:], strict=True):
        middle = (now + then) / 2
        x = x + (then - now) * denoise(x + (middle - now) * denoise(x, now).velocity, middle).velocity
    return x
