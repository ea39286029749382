"""The midpoint method, second order: the velocity half a step ahead."""

from collections.abc import Callable

from torch import Tensor

__all__ = ["integrate"]


def integrate(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, times: Tensor) -> Tensor:
    """Follow `velocity(x, t)` from `noise` along decreasing `times` [steps + 1]."""
    x = noise
    for now, then in zip(times[:-1], times[1:], strict=True):
        middle = (now + then) / 2
        x = x + (then - now) * velocity(x + (middle - now) * velocity(x, now), middle)
    return x
