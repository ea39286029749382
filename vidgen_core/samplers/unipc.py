"""UniPC, second order: a step, then its correction by the prediction at its end, which the next step needs anyway.

Zhao et al. 2023 (arXiv:2302.04867), algorithms 1 and 2 on predictions of the data, with B(h) = e^h - 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vidgen_core.paths import Path
from vidgen_core.predictions import Denoise, Draw

__all__ = ["integrate"]


def integrate(denoise: Denoise, start: Tensor, times: Tensor, draw: Draw) -> Tensor:
    """From `start` along decreasing `times` [steps + 1]; the first and the last step are of first order."""
    del draw
    x, step = start, None
    for now, then in zip(times[:-1], times[1:], strict=True):
        seen = denoise(x, now)
        if step is not None:
            x = step.corrected(seen.data)
        before = step if then > 0 else None
        step = _Step(seen.path, x, seen.data, now, then, before)
        x = step.predicted()
    return x


@dataclass(frozen=True)
class _Step:
    """From x at `now`, where the data were predicted as `data`, to `then`; `before` is the step that led here."""

    path: Path
    x: Tensor
    data: Tensor
    now: Tensor
    then: Tensor
    before: "_Step | None"

    @property
    def width(self) -> Tensor:
        """Growth h of half the log signal-to-noise ratio."""
        return self.path.half_logsnr(self.then) - self.path.half_logsnr(self.now)

    def predicted(self) -> Tensor:
        """The sample at `then`, where half of the past slope stands for the one ahead."""
        return self._moved(0 if self.before is None else self._past_slope() / 2)

    def corrected(self, data_then: Tensor) -> Tensor:
        """The sample at `then`, knowing what was predicted there."""
        slope = data_then - self.data
        if self.before is None:
            return self._moved(slope / 2)
        # Weights that make the step exact for predictions that are quadratic in half the log ratio.
        back, ahead = -self.before.width / self.width, -self.width
        growth = torch.expm1(ahead)
        first = growth / ahead - 1
        second = first / ahead - 0.5
        past = (first - 2 * second) / growth / (1 - back)
        return self._moved(past * self._past_slope() + (first / growth - past) * slope)

    def _past_slope(self) -> Tensor:
        assert self.before is not None
        return (self.data - self.before.data) * (self.width / self.before.width)

    def _moved(self, change: Tensor | int) -> Tensor:
        """The exact step for constant data, and what a change of the data along the way adds."""
        path = self.path
        shrink = path.sigma(self.then) / path.sigma(self.now)
        grown = path.alpha(self.then) - path.alpha(self.now) * shrink  # alpha_then (1 - e^-h)
        return shrink * self.x + grown * (self.data + change)
