"""Rectified flow in latent space with a factorized space-time transformer.

Liu et al. 2022, "Flow Straight and Fast" (arXiv:2209.03003); Lipman et al. 2022, "Flow Matching" (arXiv:2210.02747);
logit-normal times and their shift from Esser et al. 2024 (arXiv:2403.03206). The network predicts the clean latents,
from which the velocity follows.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from vidgen_core.chance import Chance
from vidgen_core.families._denoiser import Denoiser, DenoiserConfig, NetworkConfig
from vidgen_core.interfaces import Published, Space
from vidgen_core.networks import factorized_dit
from vidgen_core.objectives.couplings import nearest
from vidgen_core.objectives.flow_matching import logit_normal_times
from vidgen_core.paths import RectifiedFlow, expand_times, shift_times
from vidgen_core.predictions import Prediction, read
from vidgen_core.shapes import Latents, PerSample, Times

__all__ = ["PUBLISHED", "Config", "FlowMatching"]

_HELD_OUT_TIMES = {f"t{time}": time for time in (0.1, 0.3, 0.5, 0.7, 0.9)}
# A velocity read from x0 divides by t; below this time the division only amplifies the network's error.
_SMALLEST_TIME = 0.05

_PAPERS_SPACE = Space(channels=4, frames=16, height=32, width=32, text_dim=0)
PUBLISHED = {  # arXiv:2401.03048, table 1
    "base": Published(_PAPERS_SPACE, 129.8e6),
    "paper": Published(_PAPERS_SPACE, 674.0e6),
}


class Config(DenoiserConfig):
    """A flow-matching generator.

    Args:
        network: Sizes of the network.
        prediction: What the network puts out: the clean data or the velocity.
        loss_on: Whose squared error is minimized. The velocity's is the data's over t squared, which spends most of the
            gradient on nearly clean samples; what a clip shows and where it moves is decided near t = 1.
        time_mean, time_std: Logit-normal density of training times.
        time_shift: Shift toward noise of training and sampling times; 1 is none.
        coupling: Which noise a sample is mixed with: its own draw, or "optimal": the draws of a piece of a batch are
            handed out so that noise and samples are near each other (Tong et al. 2023, arXiv:2302.00482), which makes
            straighter flows. A batch that is cut into other pieces is then another batch.
        shown_frames, text_dropout, scalar_dropout: See `DenoiserConfig`.

    """

    network: NetworkConfig = factorized_dit.Config()
    prediction: Literal["data", "velocity"] = "data"
    loss_on: Literal["data", "velocity"] = "data"
    time_mean: float = 0.0
    time_std: float = 1.3
    time_shift: float = 3.0
    coupling: Literal["independent", "optimal"] = "independent"

    @classmethod
    def tiny(cls) -> "Config":
        """Learns the sample videos on a laptop in minutes."""
        return cls(network=factorized_dit.Config(stem_channels=64), time_shift=5.0)

    @classmethod
    def mid(cls) -> "Config":
        """Twelve pairs of blocks for 16 frames of 32 x 32 latents: half a day of one large accelerator."""
        return cls(network=factorized_dit.Config(dim=384, depth=12, heads=6))

    @classmethod
    def base(cls) -> "Config":
        """Latte-B/2's width and depth (arXiv:2401.03048, table 1)."""
        return cls(network=factorized_dit.Config(dim=768, depth=6, heads=12))

    @classmethod
    def paper(cls) -> "Config":
        """Latte-XL/2's width and depth (arXiv:2401.03048, table 1)."""
        return cls(network=factorized_dit.Config(dim=1152, depth=14, heads=16))

    def build(self, space: Space) -> "FlowMatching":
        """The family for samples and text of one space."""
        return FlowMatching(self, space)


class FlowMatching(Denoiser):
    """One player, one network, one velocity."""

    any_shape = True
    config: Config

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__(config, config.network, space, path=RectifiedFlow(), kind=config.prediction)

    @property
    def held_out_times(self) -> Mapping[str, float]:
        """Five times from nearly clean to nearly noise."""
        return _HELD_OUT_TIMES

    def draw_times(self, chance: Chance, index: Tensor) -> PerSample:
        """Logit-normal and shifted."""
        config = self.config
        return logit_normal_times(chance, index, mean=config.time_mean, std=config.time_std, shift=config.time_shift)

    def paired(self, noise: Latents, data: Latents) -> Latents:
        """As the coupling says."""
        return noise if self.config.coupling == "independent" else noise[nearest(noise, data)]

    def weight(self, t: PerSample) -> PerSample:
        """The velocity's error is that of the data over t; 1 where the loss is on what the network puts out."""
        if self.config.prediction == self.config.loss_on:
            return torch.ones_like(t)
        power = 2 if self.config.loss_on == "data" else -2
        return t.clamp_min(_SMALLEST_TIME) ** power

    def read(self, output: Latents, x: Latents, t: Times) -> Prediction:
        """By its velocity."""
        times = expand_times(t, x)
        if self.config.prediction == "data":
            output = self.path.velocity_from_data(x, output, times.clamp_min(_SMALLEST_TIME))
        return read("velocity", output, path=self.path, x=x, t=times)

    def times(self, steps: int) -> Tensor:
        """Evenly spaced, then shifted."""
        return shift_times(self.path.grid(steps), self.config.time_shift)
