"""Rectified flow in latent space with a factorized space-time transformer.

Liu et al. 2022, "Flow Straight and Fast" (arXiv:2209.03003); Lipman et al. 2022, "Flow Matching" (arXiv:2210.02747);
logit-normal times and their shift from Esser et al. 2024 (arXiv:2403.03206). The network predicts the clean latents,
from which the velocity follows.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from vidgen_core import discovery
from vidgen_core.chance import Chance
from vidgen_core.guidance import guided
from vidgen_core.interfaces import Ask, Batch, Family, Frozen, Player, Published, Space, Text, Work
from vidgen_core.networks import factorized_dit
from vidgen_core.objectives.flow_matching import logit_normal_times, per_sample_mean
from vidgen_core.paths import RectifiedFlow, expand_times, shift_times
from vidgen_core.predictions import Prediction, read
from vidgen_core.scalars import named
from vidgen_core.shapes import Latents, Times

__all__ = ["PUBLISHED", "Config", "FlowMatching"]

Scalars = Mapping[str, Tensor]
_HELD_OUT_TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
# A velocity read from x0 divides by t; below this time the division only amplifies the network's error.
_SMALLEST_TIME = 0.05

_PAPERS_SPACE = Space(channels=4, frames=16, height=32, width=32, text_dim=0)
PUBLISHED = {  # arXiv:2401.03048, table 1
    "base": Published(_PAPERS_SPACE, 129.8e6),
    "paper": Published(_PAPERS_SPACE, 674.0e6),
}


class Config(Frozen):
    """A flow-matching generator.

    Args:
        network: Sizes of the transformer.
        prediction: What the network puts out: the clean data or the velocity.
        loss_on: Whose squared error is minimized. The velocity's is the data's over t squared, which spends most of the
            gradient on nearly clean samples; what a clip shows and where it moves is decided near t = 1.
        time_mean, time_std: Logit-normal density of training times.
        time_shift: Shift toward noise of training and sampling times; 1 is none.
        text_dropout: Share of training samples whose text is emptied, and whose scalars are left out, for guidance.
        scalar_dropout: Share of training samples that lack one scalar besides, so that any of them may be asked for.

    """

    network: factorized_dit.Config = factorized_dit.Config()
    prediction: Literal["data", "velocity"] = "data"
    loss_on: Literal["data", "velocity"] = "data"
    time_mean: float = 0.0
    time_std: float = 1.3
    time_shift: float = 3.0
    text_dropout: float = 0.1
    scalar_dropout: float = 0.1

    @classmethod
    def tiny(cls) -> "Config":
        """Learns the sample videos on a laptop in minutes."""
        return cls(network=factorized_dit.Config(stem_channels=64), time_shift=5.0)

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


class FlowMatching(Family):
    """One player, one network, one velocity."""

    has_denoiser = True
    any_shape = True
    accepts_scalars = True

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config, self.space = config, space
        self.path = RectifiedFlow()
        self.network = config.network.build(space)

    def players(self) -> Mapping[str, Player]:
        """The network alone."""
        weights = dict(self.network.named_parameters())
        return {"generator": Player(weights, hidden=self.network.hidden_matrices())}

    def velocity(self, x: Latents, t: Times, text: Text | None, scalars: Scalars | None = None) -> Latents:
        """dx_t/dt as the network sees it."""
        out = self.network(x, t, text, scalars)
        if self.config.prediction == "velocity":
            return out
        return self.path.velocity_from_data(x, out, expand_times(t.clamp_min(_SMALLEST_TIME), x))

    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        """Mean squared error at one random time a sample."""
        config = self.config
        t = logit_normal_times(chance, batch.index, mean=config.time_mean, std=config.time_std, shift=config.time_shift)
        errors = self._velocity_error(self._thinned(batch, chance), t, chance)
        if config.loss_on == "data":
            errors = errors * t.clamp_min(_SMALLEST_TIME) ** 2
        yield "generator", errors.mean()

    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        """Squared error of the data predicted at fixed times, and its mean over them."""
        errors = {}
        for time in _HELD_OUT_TIMES:
            t = torch.full((len(batch.video),), time, device=batch.video.device)
            draws = chance.within(f"t{time:.1f}")
            errors[f"t{time:.1f}"] = time**2 * self._velocity_error(batch, t, draws)
        return {"loss": torch.stack(list(errors.values())).mean(0), **errors}

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        """One pass of the network and its gradient."""
        return Work(self.network.flops(shape, text_tokens).step, self.network.tokens(shape))

    def generate(self, ask: Ask, chance: Chance) -> Latents:
        """Integrate from noise to data along shifted, evenly spaced times."""
        sampler = discovery.load("vidgen_core.samplers", ask.sampler)
        noise = chance.normal("sample", ask.index, ask.shape)
        follow = guided(self._told(ask), ask.text, scale=ask.guidance, negative=ask.negative, how=ask.guiding)

        def denoise(x: Latents, t: Tensor) -> Prediction:
            return read("velocity", follow(x, t.to(x.dtype).expand(len(x))), path=self.path, x=x, t=t)

        times = shift_times(self.path.grid(ask.steps), self.config.time_shift)
        return sampler.integrate(
            denoise, noise, times, lambda step: chance.within("step", step).normal("sample", ask.index, ask.shape)
        )

    def _thinned(self, batch: Batch, chance: Chance) -> Batch:
        """The batch as it is learned from: some samples without any condition, some without one of their scalars."""
        told = chance.uniform("text_dropout", batch.index) >= self.config.text_dropout
        scalars = {}
        for name, values in batch.scalars.items():
            kept = told & (chance.uniform(f"scalar_dropout {name}", batch.index) >= self.config.scalar_dropout)
            scalars[name] = values.where(kept, torch.nan)
        return replace(batch, text=None if batch.text is None else batch.text.where(told), scalars=scalars)

    def _told(self, ask: Ask) -> Callable[[Latents, Times, Text | None], Latents]:
        """The velocity under an ask's scalars; what guidance leads away from, a second half of the batch, has none."""
        given = dict(ask.scalars or {})
        for name in given:
            named(self.space.scalars, name)
        pairs = {name: torch.cat([values, torch.full_like(values, torch.nan)]) for name, values in given.items()}

        def velocity(x: Latents, t: Times, text: Text | None) -> Latents:
            return self.velocity(x, t, text, {name: values[: len(x)] for name, values in pairs.items()})

        return velocity

    def _velocity_error(self, batch: Batch, t: Tensor, chance: Chance) -> Tensor:
        data = batch.video
        noise = chance.normal("noise", batch.index, data.shape[1:])
        times = expand_times(t, data)
        x = self.path.mix(data, noise, times)
        out = self.network(x, t, batch.text, batch.scalars)
        if self.config.prediction == "velocity":
            return per_sample_mean((out - self.path.velocity(data, noise, times)) ** 2)
        # The velocity's error is that of the data over t, so the clean target is used as it is.
        return t.clamp_min(_SMALLEST_TIME) ** -2 * per_sample_mean((out - data) ** 2)
