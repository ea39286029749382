"""The midpoint method, second order: the velocity half a step ahead."""

from torch import Tensor

from vidgen_core.predictions import Denoise, Draw

__all__ = ["integrate"]


def integrate(denoise: Denoise, start: Tensor, times: Tensor, draw: Draw) -> Tensor:
    """Follow the velocity from `start` along decreasing `times` [steps + 1]."""
    del draw
    x = start
    for now, then in zip(times[:-1], times[1:], strict=True):
        seen = denoise(x, now)
        path = seen.path
        middle = path.time((path.clock(now) + path.clock(then)) / 2)
        halfway = denoise(path.travel(x, seen.velocity, now, middle), middle)
        x = path.travel(x, halfway.velocity, now, then)
    return x
