"""Noise paths: how data becomes noise.

`x_t = alpha(t) x0 + sigma(t) eps` with t = 0 at data and t = 1 at noise. The velocity is that of x_t/s(t) by a clock
c(t), along which solvers step: dx_t/dt, except where times number the levels of a schedule, which bends the way.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Path",
    "RectifiedFlow",
    "Trigonometric",
    "VarianceExploding",
    "VariancePreserving",
    "expand_times",
    "shift_times",
]


class Path(ABC):
    """Coefficients of a noise path as pure functions of time, any broadcastable shape."""

    #: Standard deviation from which a sampler starts at t = 1.
    prior_std: float = 1.0

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Weight of the data."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Weight of the noise."""

    @abstractmethod
    def alpha_rate(self, t: Tensor) -> Tensor:
        """D (alpha / scale) / dc."""

    @abstractmethod
    def sigma_rate(self, t: Tensor) -> Tensor:
        """D (sigma / scale) / dc."""

    def clock(self, t: Tensor) -> Tensor:
        """C(t), by which the velocity is taken: 0 at data, 1 at noise."""
        return t

    def time(self, clock: Tensor) -> Tensor:
        """The time at which the clock says so."""
        return clock

    def scale(self, t: Tensor) -> Tensor:
        """Size s(t) of samples over that at which the velocity is taken."""
        return torch.ones_like(t)

    def travel(self, x: Tensor, velocity: Tensor, now: Tensor, then: Tensor) -> Tensor:
        """Where `x` comes by a velocity that stays the same from one time to another."""
        return self.scale(then) * (x / self.scale(now) + (self.clock(then) - self.clock(now)) * velocity)

    def half_logsnr(self, t: Tensor) -> Tensor:
        """Lambda = log(alpha / sigma): infinite at data, and minus infinity where nothing is left of the data."""
        return self.alpha(t).log() - self.sigma(t).log()

    def grid(self, steps: int) -> Tensor:
        """Times [steps + 1] from 1 to 0 at which a sampler of so many steps stands, float64."""
        return torch.linspace(1, 0, steps + 1, dtype=torch.float64)

    def mix(self, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t for times that broadcast against the data."""
        return self.alpha(t) * data + self.sigma(t) * noise

    def velocity(self, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """D (x_t/scale) / dc for given `data` and `noise`."""
        return self.alpha_rate(t) * data + self.sigma_rate(t) * noise

    def data_from_velocity(self, x: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
        """x0 implied by a velocity: (sigma' x - sigma u) / (alpha sigma' - sigma alpha')."""
        return (self.sigma_rate(t) * x - self.sigma(t) * velocity) / self._wronskian(t)

    def velocity_from_data(self, x: Tensor, data: Tensor, t: Tensor) -> Tensor:
        """Velocity implied by a prediction of x0; sigma(t) must not be 0."""
        return (self.sigma_rate(t) * x - self._wronskian(t) * data) / self.sigma(t)

    def noise_from_velocity(self, x: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
        """Eps implied by a velocity: (alpha u - alpha' x) / (alpha sigma' - sigma alpha')."""
        return (self.alpha(t) * velocity - self.alpha_rate(t) * x) / self._wronskian(t)

    def _wronskian(self, t: Tensor) -> Tensor:
        return self.alpha(t) * self.sigma_rate(t) - self.sigma(t) * self.alpha_rate(t)


@dataclass(frozen=True)
class RectifiedFlow(Path):
    """Straight lines: alpha = 1 - t, sigma = t. Liu et al. 2022 (arXiv:2209.03003)."""

    def alpha(self, t: Tensor) -> Tensor:
        """1 - t."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """T."""
        return t

    def alpha_rate(self, t: Tensor) -> Tensor:
        """-1."""
        return -torch.ones_like(t)

    def sigma_rate(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)


@dataclass(frozen=True)
class Trigonometric(Path):
    """A quarter circle: alpha = cos(pi t / 2), sigma = sin(pi t / 2). Ma et al. 2024 (arXiv:2401.08740)."""

    def alpha(self, t: Tensor) -> Tensor:
        """Cos(pi t / 2)."""
        return torch.cos(t * (torch.pi / 2))

    def sigma(self, t: Tensor) -> Tensor:
        """Sin(pi t / 2)."""
        return torch.sin(t * (torch.pi / 2))

    def alpha_rate(self, t: Tensor) -> Tensor:
        """-pi/2 sin(pi t / 2)."""
        return -torch.pi / 2 * self.sigma(t)

    def sigma_rate(self, t: Tensor) -> Tensor:
        """pi/2 cos(pi t / 2)."""
        return torch.pi / 2 * self.alpha(t)


@dataclass(frozen=True)
class VarianceExploding(Path):
    """Data under growing noise: alpha = 1, sigma = largest * t. Karras et al. 2022 (arXiv:2206.00364), table 1, "ours".

    Time is proportional to sigma, so a straight step in time is one in sigma.

    Args:
        smallest, largest: Noise levels between which a sampler walks; its last step goes from `smallest` to 0.
        rho: Bend of the walk: 1 is even, more spends more steps near `smallest` (eq. 5).

    """

    smallest: float = 0.002
    largest: float = 80.0
    rho: float = 7.0

    @property
    def prior_std(self) -> float:  # type: ignore[override]
        """The largest level."""
        return self.largest

    def alpha(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Largest * t."""
        return self.largest * t

    def alpha_rate(self, t: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(t)

    def sigma_rate(self, t: Tensor) -> Tensor:
        """Largest."""
        return torch.full_like(t, self.largest)

    def grid(self, steps: int) -> Tensor:
        """Levels evenly spaced in sigma^(1/rho) from largest to smallest, then 0 (eq. 5), over the largest."""
        first, last = self.largest ** (1 / self.rho), self.smallest ** (1 / self.rho)
        levels = torch.linspace(first, last, steps, dtype=torch.float64) ** self.rho / self.largest
        return torch.cat([levels, levels.new_zeros(1)])


class VariancePreserving(Path):
    """Discrete diffusion, alpha^2 + sigma^2 = 1; level i stands at t = i / levels. Ho et al. 2020 (arXiv:2006.11239).

    Between two levels alpha goes along a straight line, so every time has a place on the path.

    Args:
        schedule: Variances beta_1 ... beta_levels added at each level, float64 [levels]; see `betas`.

    """

    def __init__(self, schedule: Tensor) -> None:
        kept = torch.cumprod(1 - schedule.double(), 0).sqrt()
        self._alphas = torch.cat([kept.new_ones(1), kept])

    @property
    def levels(self) -> int:
        """Number of noise levels."""
        return len(self._alphas) - 1

    def alpha(self, t: Tensor) -> Tensor:
        """Square root of the share of the data's variance that is left."""
        return self._alpha(t).to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - alpha^2)."""
        alpha = self._alpha(t)
        return ((1 - alpha) * (1 + alpha)).sqrt().to(t.dtype)

    def alpha_rate(self, t: Tensor) -> Tensor:
        """-1."""
        return -torch.ones_like(t)

    def sigma_rate(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def scale(self, t: Tensor) -> Tensor:
        """Alpha + sigma, over which the path is the straight one of rectified flow."""
        return self.alpha(t) + self.sigma(t)

    def clock(self, t: Tensor) -> Tensor:
        """The time of rectified flow with as much noise. By that of levels the velocity is infinite at data."""
        return self.sigma(t) / self.scale(t)

    def time(self, clock: Tensor) -> Tensor:
        """On the line between the two levels around it; the last level's where it lies beyond."""
        noise, table = clock.double(), self._alphas.to(clock.device)
        alpha = (1 - noise) * ((1 - noise) ** 2 + noise**2).rsqrt()
        below = (torch.searchsorted(-table, -alpha) - 1).clamp(0, self.levels - 1)
        place = below + (table[below] - alpha) / (table[below] - table[below + 1])
        return (place.clamp(0, self.levels) / self.levels).to(clock.dtype)

    def grid(self, steps: int) -> Tensor:
        """Every (levels / steps)-th level from the last one down ("trailing"), rounded to levels, then 0.

        Lin et al. 2023 (arXiv:2305.08891), section 3.3.
        """
        return torch.linspace(self.levels, 0, steps + 1, dtype=torch.float64).round() / self.levels

    def _alpha(self, t: Tensor) -> Tensor:
        """Alpha at times, float64."""
        place = t.double() * self.levels
        below = place.floor().clamp(0, self.levels - 1).long()
        table = self._alphas.to(t.device)
        return table[below] + (place - below) * (table[below + 1] - table[below])


def shift_times(t: Tensor, shift: float) -> Tensor:
    """Move times toward noise: shift t / (1 + (shift - 1) t). Esser et al. 2024 (arXiv:2403.03206), eq. 23.

    Shifts compose by multiplication, and 1/shift undoes a shift.
    """
    return shift * t / (1 + (shift - 1) * t)


def expand_times(t: Tensor, like: Tensor) -> Tensor:
    """Times [B] or [B, T] shaped to broadcast against `like` [B, C, T, H, W]."""
    return t.reshape(t.shape[0], 1, -1, 1, 1) if t.ndim == 2 else t.reshape(-1, *[1] * (like.ndim - 1))
