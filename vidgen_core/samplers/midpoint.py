"""The midpoint method, second order: the velocity half a step ahead."""

from torch import Tensor

from vidgen_core.predictions import Denoise, Draw

__all__ = ["integrate"]


def integrate(denoise: Denoise, start: Tensor, times: Tensor, draw: Draw) -> Tensor:
    """Follow the velocity from `start` by the path's clock along decreasing `times` [steps + 1]."""
    del draw
    x = start
    for now, then in zip(times[:-1], times[1:], strict=True):
        seen = denoise(x, now)
        path, start_of_step = seen.path, seen.path.clock(now)
        step = path.clock(then) - start_of_step
        middle = denoise(x + step / 2 * seen.velocity, path.time(start_of_step + step / 2))
        x = x + step * middle.velocity
    return x
