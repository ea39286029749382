"""Euler's method, first order: one velocity a step."""

from collections.abc import Callable

from torch import Tensor

__all__ = ["integrate"]


def integrate(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, times: Tensor) -> Tensor:
    """Follow `velocity(x, t)` from `noise` along decreasing `times` [steps + 1]."""
    x = noise
    for now, then in zip(times[:-1], times[1:], strict=True):
        x = x + (then - now) * velocity(x, now)
    return x
