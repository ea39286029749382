"""One network output, read as data, noise, velocity or score.

Whatever a network was trained to put out, a sampler reads what it needs: all readings are affine in each other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vidgen_core.paths import Path

__all__ = ["Denoise", "Draw", "Kind", "Prediction", "read", "target"]

Kind = Literal["data", "noise", "v", "velocity"]

# Below it a division by the weight of data or noise only amplifies rounding.
_TINY = 1e-8


@dataclass(frozen=True)
class Prediction:
    """What a network says of `x` at time `t`.

    Attributes:
        path: The path on which x lies.
        x: Noisy samples [B, C, T, H, W].
        t: Their times, shaped to broadcast against x.
        data: Predicted x0.
        noise: Predicted eps; path.mix(data, noise, t) is x.

    """

    path: Path
    x: Tensor
    t: Tensor
    data: Tensor
    noise: Tensor

    @property
    def velocity(self) -> Tensor:
        """Along which solvers step; see `paths.py`."""
        return self.path.velocity(self.data, self.noise, self.t)

    @property
    def score(self) -> Tensor:
        """Gradient of the log density of x: -eps / sigma."""
        return -self.noise / self.path.sigma(self.t).clamp_min(_TINY)


#: What a sampler asks: x [B, C, T, H, W] and one time for all of them.
Denoise = Callable[[Tensor, Tensor], Prediction]
#: Standard normal draws shaped like x, for a step's number; a sampler that takes no chances never asks.
Draw = Callable[[int], Tensor]


def read(kind: Kind, output: Tensor, *, path: Path, x: Tensor, t: Tensor) -> Prediction:
    """What an output of some kind says.

    v is alpha eps - sigma x0, for paths with alpha^2 + sigma^2 = 1 (Salimans and Ho 2022, arXiv:2202.00512).
    """
    alpha, sigma = path.alpha(t), path.sigma(t)
    if kind == "data":
        return Prediction(path, x, t, output, (x - alpha * output) / sigma.clamp_min(_TINY))
    if kind == "noise":
        return Prediction(path, x, t, (x - sigma * output) / alpha.clamp_min(_TINY), output)
    if kind == "v":
        return Prediction(path, x, t, alpha * x - sigma * output, sigma * x + alpha * output)
    data, noise = path.data_from_velocity(x, output, t), path.noise_from_velocity(x, output, t)
    return Prediction(path, x, t, data, noise)


def target(kind: Kind, *, path: Path, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """What a network of some kind should put out for path.mix(data, noise, t)."""
    if kind == "data":
        return data
    if kind == "noise":
        return noise
    if kind == "v":
        return path.alpha(t) * noise - path.sigma(t) * data
    return path.velocity(data, noise, t)
