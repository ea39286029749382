"""DPM-Solver++(2M), second order from two predictions of the data. Lu et al. 2022 (arXiv:2211.01095), algorithm 2."""

from torch import Tensor

from vidgen_core.predictions import Denoise, Draw

__all__ = ["integrate"]


def integrate(denoise: Denoise, start: Tensor, times: Tensor, draw: Draw) -> Tensor:
    """From `start` along decreasing `times` [steps + 1]; the first and the last step are of first order."""
    del draw
    x, last, last_width = start, start, None
    for now, then in zip(times[:-1], times[1:], strict=True):
        seen = denoise(x, now)
        path = seen.path
        width = path.half_logsnr(then) - path.half_logsnr(now)
        data = seen.data
        if last_width is not None and then > 0:
            data = data + width / (2 * last_width) * (data - last)
        # alpha (e^-width - 1) without the exponential, which is infinite where nothing is left of the data.
        shrink = path.sigma(then) / path.sigma(now)
        x = shrink * x + (path.alpha(then) - path.alpha(now) * shrink) * data
        last, last_width = seen.data, width
    return x
