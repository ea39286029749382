"""Heun's method, second order: the mean of the velocities at both ends of a step.

Karras et al. 2022 (arXiv:2206.00364), algorithm 1.
"""

from torch import Tensor

from vidgen_core.predictions import Denoise, Draw

__all__ = ["integrate"]


def integrate(denoise: Denoise, start: Tensor, times: Tensor, draw: Draw) -> Tensor:
    """Follow the velocity from `start` along decreasing `times` [steps + 1].

    The last step is Euler's where it ends at t = 0, at which a velocity read from a prediction of x0 is undefined.
    """
    del draw
    x = start
    for now, then in zip(times[:-1], times[1:], strict=True):
        seen = denoise(x, now)
        guess = seen.path.travel(x, seen.velocity, now, then)
        if then == 0:
            return guess
        x = seen.path.travel(x, (seen.velocity + denoise(guess, then).velocity) / 2, now, then)
    return x
