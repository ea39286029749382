"""Ancestral sampling: each step draws from the posterior of the next sample given the predicted data.

Ho et al. 2020 (arXiv:2006.11239), eq. 6 and 7; with fewer steps than levels it is DDIM's with eta = 1 (Song et al.
2020, arXiv:2010.02502, eq. 12 and 16).
"""

from torch import Tensor

from vidgen_core.predictions import Denoise, Draw, Prediction

__all__ = ["integrate", "posterior"]


def integrate(denoise: Denoise, start: Tensor, times: Tensor, draw: Draw) -> Tensor:
    """From `start` along decreasing `times` [steps + 1], with fresh noise in each step but the last."""
    x = start
    for step, (now, then) in enumerate(zip(times[:-1], times[1:], strict=True)):
        x, fresh = posterior(denoise(x, now), now, then)
        if then > 0:
            x = x + fresh * draw(step)
    return x


def posterior(seen: Prediction, now: Tensor, then: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the sample at `then`, given that at `now` and what is said of its data.

    Times broadcast against samples.
    """
    path, before, after = seen.path, seen.path.sigma(now), seen.path.sigma(then)
    # The variance of x_now given x_then, and of x_then given x_now and the data.
    added = before**2 - (path.alpha(now) / path.alpha(then) * after) ** 2
    fresh = (added.clamp_min(0) / before**2).sqrt() * after
    return path.alpha(then) * seen.data + (after**2 - fresh**2).clamp_min(0).sqrt() * seen.noise, fresh
