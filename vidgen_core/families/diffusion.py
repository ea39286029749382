"""Denoising diffusion. Ho et al. 2020 (arXiv:2006.11239), and its descendants by settings.

The process is discrete, with a schedule of a thousand levels, or that of Karras et al. 2022, "EDM" (arXiv:2206.00364),
with a network that is preconditioned for every level of noise.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from vidgen_core import betas
from vidgen_core.chance import Chance
from vidgen_core.errors import VidgenError
from vidgen_core.families._conditioned import Scalars
from vidgen_core.families._denoiser import Denoiser, DenoiserConfig, NetworkConfig
from vidgen_core.interfaces import Space, Text
from vidgen_core.networks import factorized_dit, unet3d
from vidgen_core.paths import Path, VarianceExploding, VariancePreserving, expand_times
from vidgen_core.predictions import Kind, Prediction, read
from vidgen_core.shapes import Latents, PerSample, Times

__all__ = ["Config", "Diffusion", "Preconditioning"]

_SCHEDULES: dict[str, Callable[[], Tensor]] = {
    "linear": betas.linear,
    "scaled_linear": betas.scaled_linear,
    "cosine": betas.cosine,
}
# Karras et al. 2022, table 1: mean and deviation of the logarithm of training levels.
_LOG_LEVEL_MEAN, _LOG_LEVEL_STD = -1.2, 1.2


class Config(DenoiserConfig):
    """A diffusion model.

    Args:
        network: Sizes of the network.
        schedule: Variances of a discrete process, or "edm".
        snr_shift: What the signal-to-noise ratio of each level of a discrete schedule is divided by.
        zero_terminal: Whether a discrete schedule is rescaled so that nothing is left of the data at its last level.
        prediction: What the network of a discrete process puts out.
        min_snr: Bound gamma on the weight that the data's error has at little noise (Hang et al. 2023,
            arXiv:2303.09556); None weighs errors of what the network puts out evenly. The bound takes all weight from
            levels of much noise, where it is decided what a clip shows and where it moves.
        data_std: Deviation of the data, for which EDM's network is preconditioned.
        shown_frames, text_dropout, scalar_dropout: See `DenoiserConfig`.

    """

    network: NetworkConfig = unet3d.Config()
    schedule: Literal["linear", "scaled_linear", "cosine", "edm"] = "cosine"
    snr_shift: float = Field(1.0, gt=0)
    zero_terminal: bool = False
    prediction: Literal["noise", "data", "v"] = "v"
    min_snr: float | None = Field(None, gt=0)
    data_std: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _shift_has_levels(self) -> "Config":
        if self.snr_shift != 1 and self.schedule == "edm":
            raise VidgenError(
                "EDM has no levels that could be shifted", got=f"snr_shift={self.snr_shift:g}", allowed="1 with edm",
                move="Take a discrete schedule, or leave snr_shift out",
            )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _last_level_can_be_learned(self) -> "Config":
        if self.zero_terminal and (self.prediction == "noise" or self.schedule == "edm"):
            raise VidgenError(
                "A level at which nothing is left of the data needs a discrete schedule that does not predict noise",
                got=f"schedule {self.schedule}, prediction {self.prediction}",
                allowed="linear, scaled_linear or cosine with v or data",
                move="Set prediction to v, or zero_terminal to false",
            )
        return self

    @classmethod
    def tiny(cls) -> "Config":
        """Learns the sample videos on a laptop in minutes."""
        network = factorized_dit.Config(stem_channels=64)
        return cls(network=network, snr_shift=25.0, zero_terminal=True, prediction="data")

    @classmethod
    def base(cls) -> "Config":
        """A U-Net for 16 frames of 64 x 64."""
        network = unet3d.Config(
            base=96, multipliers=(1, 2, 3, 4), blocks=2, attention=(False, True, True, True), head_dim=48
        )
        return cls(network=network)

    def build(self, space: Space) -> "Diffusion":
        """The family for samples and text of one space."""
        return Diffusion(self, space)


class Preconditioning:
    """How EDM's network is scaled at a level sigma, so that its input and its target have unit variance (table 1)."""

    def __init__(self, data_std: float) -> None:
        self.data_std = data_std

    def keep(self, sigma: Tensor) -> Tensor:
        """Share of x in the prediction of data (c_skip)."""
        return self.data_std**2 / (sigma**2 + self.data_std**2)

    def out(self, sigma: Tensor) -> Tensor:
        """Scale of the network's output (c_out)."""
        return sigma * self.data_std / (sigma**2 + self.data_std**2).sqrt()

    def into(self, sigma: Tensor) -> Tensor:
        """Scale of the network's input (c_in)."""
        return (sigma**2 + self.data_std**2).rsqrt()


class Diffusion(Denoiser):
    """One player, one network, a process of noise."""

    config: Config

    def __init__(self, config: Config, space: Space) -> None:
        edm = config.schedule == "edm"
        kind: Kind = "data" if edm else config.prediction
        path = VarianceExploding() if edm else _discrete(config)
        super().__init__(config, config.network, space, path=path, kind=kind)
        self.scaled = Preconditioning(config.data_std) if edm else None

    @property
    def held_out_times(self) -> Mapping[str, float]:
        """Five times; for EDM the quantiles of its training levels, of which most have very small times."""
        if self.scaled is None:
            return {f"t{time}": time for time in (0.1, 0.3, 0.5, 0.7, 0.9)}
        places = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
        levels = torch.exp(_LOG_LEVEL_MEAN + _LOG_LEVEL_STD * torch.special.ndtri(places))
        times = (levels / self.path.prior_std).tolist()
        return {f"q{place:.1f}": time for place, time in zip(places.tolist(), times, strict=True)}

    def draw_times(self, chance: Chance, index: Tensor) -> PerSample:
        """A level of a discrete process, all equally often; for EDM log-normal (eq. 2 of section 5)."""
        if isinstance(self.path, VariancePreserving):
            return (chance.uniform("time", index) * self.path.levels).floor().add(1) / self.path.levels
        level = torch.exp(_LOG_LEVEL_MEAN + _LOG_LEVEL_STD * chance.normal("time", index, ()))
        return level / self.path.prior_std

    def weight(self, t: PerSample) -> PerSample:
        """EDM's, which makes all levels' errors of the bare network count alike; or what min_snr says."""
        if self.scaled is not None:
            return self.scaled.out(self.path.sigma(t)) ** -2
        if self.config.min_snr is None:
            return torch.ones_like(t)
        ratio = (self.path.alpha(t) / self.path.sigma(t)) ** 2
        bounded = ratio.clamp_max(self.config.min_snr)
        return {"data": bounded, "noise": bounded / ratio, "v": bounded / (ratio + 1)}[self.config.prediction]

    def output(self, x: Latents, t: Times, text: Text | None, scalars: Scalars | None = None) -> Latents:
        """What the network says; EDM's says data (eq. 7)."""
        if self.scaled is None:
            return super().output(x, t, text, scalars)
        sigma = self.path.sigma(expand_times(t, x))
        out = self.network(self.scaled.into(sigma) * x, self._heard(t), text, scalars)
        return self.scaled.keep(sigma) * x + self.scaled.out(sigma) * out

    def read(self, output: Latents, x: Latents, t: Times) -> Prediction:
        """As what the network puts out."""
        return read(self.kind, output, path=self.path, x=x, t=expand_times(t, x))

    def times(self, steps: int) -> Tensor:
        """Levels of the process."""
        return self.path.grid(steps)

    def _heard(self, t: Times) -> Times:
        """EDM's levels for the network: their logarithms on a line from the smallest, 0, to the largest, 1."""
        assert isinstance(self.path, VarianceExploding)
        smallest, largest = math.log(self.path.smallest), math.log(self.path.largest)
        return (self.path.sigma(t).clamp_min(self.path.smallest).log() - smallest) / (largest - smallest)


def _discrete(config: Config) -> Path:
    schedule: Tensor = betas.shifted(_SCHEDULES[config.schedule](), config.snr_shift)
    return VariancePreserving(betas.zero_terminal(schedule) if config.zero_terminal else schedule)
