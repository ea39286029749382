"""What all families share that learn to predict data or noise from a mix of both, and generate with a solver.

They differ in path, in what the network puts out, in the times at which it learns and in the weights of its errors.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Literal

import torch
from pydantic import Discriminator, Field, Tag
from torch import Tensor

from vidgen_core import discovery
from vidgen_core.chance import Chance
from vidgen_core.errors import VidgenError
from vidgen_core.families._conditioned import Conditioned, ConditionedConfig, Scalars
from vidgen_core.frozen import kind_or
from vidgen_core.guidance import guided
from vidgen_core.interfaces import Ask, Batch, Player, Space, Text, Work
from vidgen_core.known import hold, resampling, shown_frames
from vidgen_core.networks import factorized_dit, unet3d
from vidgen_core.paths import Path, expand_times
from vidgen_core.predictions import Kind, Prediction, read, target
from vidgen_core.shapes import Latents, PerSample, Times

__all__ = ["Denoiser", "DenoiserConfig", "NetworkConfig"]

_Network = Callable[[Latents, Times, Text | None], Latents]
NetworkConfig = Annotated[
    Annotated[factorized_dit.Config, Tag("factorized_dit")] | Annotated[unet3d.Config, Tag("unet3d")],
    Discriminator(kind_or("factorized_dit")),
]


class DenoiserConfig(ConditionedConfig):
    """What the configurations of these families have in common.

    Args:
        shown_frames: Share of training samples of which some frames are shown clean, so that the model continues,
            interpolates and animates pictures.
        own_times: Share of training samples whose frames each have a noise time of their own (Chen et al. 2024,
            "Diffusion Forcing", arXiv:2407.01392); it teaches the same in another way. Where neither is asked for,
            known elements are replaced by noisy ones when it samples.
        text_dropout, scalar_dropout: See `ConditionedConfig`.

    """

    shown_frames: float = Field(0.0, ge=0, le=1)
    own_times: float = Field(0.0, ge=0, le=1)

    @property
    def frame_times(self) -> bool:
        """Whether its network learns frames of different times."""
        return self.shown_frames > 0 or self.own_times > 0


class Denoiser(Conditioned):
    """One player, one network, one path.

    Args:
        config: Of the family.
        network: Its sizes.
        space: Where it lives.
        path: How data become noise.
        kind: What the network puts out, preconditioned.

    """

    has_denoiser = True
    accepts_known = True
    config: DenoiserConfig

    def __init__(self, config: DenoiserConfig, network: NetworkConfig, space: Space, *, path: Path, kind: Kind) -> None:
        super().__init__()
        if config.frame_times and isinstance(network, factorized_dit.Config) and network.patch_frames > 1:
            raise VidgenError(
                "Frames that share tokens cannot have noise times of their own",
                got=f"network.patch_frames={network.patch_frames}",
                allowed="1 with shown_frames or own_times",
                move="Set family.network.patch_frames to 1, or shown_frames and own_times to 0",
            )
        self.config, self.space, self.path, self.kind = config, space, path, kind
        self.network = network.build(space)

    @abstractmethod
    def draw_times(self, chance: Chance, index: Tensor) -> PerSample:
        """Times at which samples are learned from, [B] in (0, 1]."""

    @abstractmethod
    def weight(self, t: PerSample) -> PerSample:
        """What a squared error of the output counts at times [B]."""

    @abstractmethod
    def read(self, output: Latents, x: Latents, t: Times) -> Prediction:
        """What an output says of x at times [B] or [B, T]."""

    @abstractmethod
    def times(self, steps: int) -> Tensor:
        """Times [steps + 1] at which a sampler stands, from noise to data."""

    @property
    @abstractmethod
    def held_out_times(self) -> Mapping[str, float]:
        """Names and values of the times at which held-out samples are looked at."""

    def paired(self, noise: Latents, data: Latents) -> Latents:
        """The noise that each sample is mixed with, of draws for this piece of a batch."""
        del data
        return noise

    def output(self, x: Latents, t: Times, text: Text | None, scalars: Scalars | None = None) -> Latents:
        """What the network says of x at times [B] or [B, T]."""
        return self.network(x, t, text, scalars)

    def players(self) -> Mapping[str, Player]:
        """The network alone."""
        weights = dict(self.network.named_parameters())
        return {"generator": Player(weights, hidden=self.network.hidden_matrices())}

    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        """Weighted mean squared error at a random time, of a sample or of each frame; shown frames do not count."""
        t = self.draw_times(chance, batch.index)
        noise = self.paired(chance.normal("noise", batch.index, batch.video.shape[1:]), batch.video)
        thinned = self._thinned(batch, chance)
        if not self.config.frame_times:
            yield "generator", (self.weight(t) * self._errors(thinned, t, noise).mean(1)).mean()
            return
        times, shown = self._frame_times(t, chance, batch)
        errors = self._errors(thinned, times.masked_fill(shown, 0.0), noise)
        counted = (self.weight(times) * errors).masked_fill(shown, 0.0)
        yield "generator", (counted.sum(1) / (~shown).sum(1)).mean()

    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        """Squared error of the output at fixed times, and its mean over them."""
        errors = {}
        for name, time in self.held_out_times.items():
            t = torch.full((len(batch.video),), time, device=batch.video.device)
            noise = chance.within(name).normal("noise", batch.index, batch.video.shape[1:])
            errors[name] = self._errors(batch, t, noise).mean(1)
        return {"loss": torch.stack(list(errors.values())).mean(0), **errors}

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        """One pass of the network and its gradient."""
        return Work(self.network.flops(shape, text_tokens).step, self.network.tokens(shape))

    def generate(self, ask: Ask, chance: Chance) -> Latents:
        """From noise to data along the sampler's times; elements that are known are kept as they are."""
        sampler = discovery.load("vidgen_core.samplers", ask.sampler)
        noise = chance.normal("sample", ask.index, ask.shape)
        network, known = self._told(ask), None
        # What knows nothing is plain sampling, bit for bit.
        if ask.known is not None and ask.known_mask is not None and ask.known_mask.any():
            known = (ask.known_mask, ask.known)
            network = hold(
                network, ask.known, ask.known_mask, path=self.path, noise=noise, frame_times=self.config.frame_times
            )
        space = ask.guiding.space
        asked = network if space is None else self._saying(space, network)
        follow = guided(asked, ask.text, scale=ask.guidance, negative=ask.negative, how=ask.guiding)

        def denoise(x: Latents, t: Tensor) -> Prediction:
            times = t.to(x).expand(len(x))
            said = follow(x, times)
            if space is None:
                return self.read(said, x, times)
            return read(space, said, path=self.path, x=x, t=expand_times(times, x))

        def draw(step: int) -> Tensor:
            return chance.within("step", step).normal("sample", ask.index, ask.shape)

        integrate = sampler.integrate
        if known is not None and ask.rounds > 1:
            integrate = resampling(integrate, path=self.path, rounds=ask.rounds)
        made = integrate(denoise, self.path.prior_std * noise, self.times(ask.steps).to(noise.device), draw)
        return made if known is None else torch.where(known[0], known[1], made)

    def _frame_times(self, t: PerSample, chance: Chance, batch: Batch) -> tuple[Tensor, Tensor]:
        """Times of all frames [B, T], and which frames are shown clean instead [B, T]."""
        config, frames = self.config, batch.video.shape[2]
        shown = shown_frames(chance, batch.index, frames, share=config.shown_frames)
        times = t[:, None].expand(-1, frames)
        if config.own_times:
            own = chance.uniform("own_times", batch.index) < config.own_times
            each = [self.draw_times(chance.within("frame", number), batch.index) for number in range(frames)]
            times = torch.where(own[:, None], torch.stack(each, 1), times)
        return times, shown

    def _saying(self, space: Literal["data", "velocity"], network: _Network) -> _Network:
        """A network that says data or velocities."""

        def saying(x: Latents, t: Times, text: Text | None) -> Latents:
            prediction = self.read(network(x, t, text), x, t)
            return prediction.data if space == "data" else prediction.velocity

        return saying

    def _told(self, ask: Ask) -> _Network:
        """The output under an ask's scalars; what guidance leads away from, a second half of the batch, has none."""
        scalars = self._scalars_of(ask)
        return lambda x, t, text: self.output(x, t, text, scalars(len(x)))

    def _errors(self, batch: Batch, t: Times, noise: Latents) -> Tensor:
        """Mean squared error of the output over each frame [B, T] at times [B] or [B, T], in float32."""
        times = expand_times(t, batch.video)
        x = self.path.mix(batch.video, noise, times)
        wanted = target(self.kind, path=self.path, data=batch.video, noise=noise, t=times)
        errors = (self.output(x, t, batch.text, batch.scalars).float() - wanted) ** 2
        return errors.transpose(1, 2).flatten(2).mean(2)
