"""Noise paths: how data becomes noise, and how one network output is read as another.

`x_t = alpha(t) x0 + sigma(t) eps` with t = 0 at data and t = 1 at noise; the velocity is dx_t/dt.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Path", "RectifiedFlow", "expand_times", "shift_times"]


class Path(ABC):
    """Coefficients of a noise path as pure functions of time, any broadcastable shape."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Weight of the data."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Weight of the noise."""

    @abstractmethod
    def alpha_rate(self, t: Tensor) -> Tensor:
        """D alpha / dt."""

    @abstractmethod
    def sigma_rate(self, t: Tensor) -> Tensor:
        """D sigma / dt."""

    def mix(self, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t for times that broadcast against the data."""
        return self.alpha(t) * data + self.sigma(t) * noise

    def velocity(self, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """dx_t/dt along the straight pairing of `data` and `noise`."""
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


def shift_times(t: Tensor, shift: float) -> Tensor:
    """Move times toward noise: shift t / (1 + (shift - 1) t). Esser et al. 2024 (arXiv:2403.03206), eq. 23.

    Shifts compose by multiplication, and 1/shift undoes a shift.
    """
    return shift * t / (1 + (shift - 1) * t)


def expand_times(t: Tensor, like: Tensor) -> Tensor:
    """Times [B] or [B, T] shaped to broadcast against `like` [B, C, T, H, W]."""
    return t.reshape(t.shape[0], 1, -1, 1, 1) if t.ndim == 2 else t.reshape(-1, *[1] * (like.ndim - 1))
