"""Heun's method, second order: the mean of the velocities at both ends of a step.

Karras et al. 2022 (arXiv:2206.00364), algorithm 1, in flow-matching time.
"""

from collections.abc import Callable

from torch import Tensor

__all__ = ["integrate"]


def integrate(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, times: Tensor) -> Tensor:
    """Follow `velocity(x, t)` from `noise` along decreasing `times` [steps + 1].

    The last step is Euler's where it ends at t = 0, at which a velocity read from a prediction of x0 is undefined.
    """
    x = noise
    for now, then in zip(times[:-1], times[1:], strict=True):
        first = velocity(x, now)
        guess = x + (then - now) * first
        x = guess if then == 0 else x + (then - now) * (first + velocity(guess, then)) / 2
    return x
