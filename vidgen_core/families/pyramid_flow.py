"""Pyramidal flow matching: frame after frame, each from coarse to fine, reading a history that is coarser the older.

Jin et al. 2024, "Pyramidal Flow Matching for Efficient Video Generative Modeling" (arXiv:2410.05954). The stages and
their noise are in `vidgen_core/pyramid.py`, what a frame reads in `_pyramid_history.py`. Unlike the paper's, text and
finished frames are read at time 0, whatever the noise of the frame that reads them, so that they are computed once.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from vidgen_core import discovery
from vidgen_core.chance import Chance
from vidgen_core.errors import VidgenError
from vidgen_core.families._conditioned import Conditioned, ConditionedConfig
from vidgen_core.families._pyramid_history import History, Packing, levels_of
from vidgen_core.guidance import guided
from vidgen_core.interfaces import Ask, Batch, Player, Published, Space, Text, Work
from vidgen_core.networks import mmdit
from vidgen_core.networks.mmdit import Frames, Kept
from vidgen_core.paths import RectifiedFlow, shift_times
from vidgen_core.predictions import Prediction, read
from vidgen_core.pyramid import Stage, coarser_noise, finer, renoise, stages
from vidgen_core.shapes import Latents

__all__ = ["PUBLISHED", "Config", "PyramidFlow"]

PUBLISHED = {  # arXiv:2410.05954, section 4.1
    "paper": Published(Space(channels=16, frames=31, height=96, width=160, text_dim=4096), 2.0e9),
}
_HELD_OUT_RESTS = (0.9, 0.5, 0.1)
# A velocity read from data divides by the weight of the noise; where less of a stage is ahead, it is taken from here.
_SMALLEST_REST = 0.05
_Said = Literal["data", "velocity"]


class Config(ConditionedConfig):
    """A pyramidal flow.

    Args:
        network: Sizes of the network.
        units: How many frames of a clip are learned from at each stage in one step, from the coarsest stage; there
            are as many stages. The paper's batches are 1 : 2 : 1. They fix what a sample costs.
        prediction: What the network puts out: the clean frame at the stage's size, or the velocity `start - end`.
        loss_on: Whose squared error is minimized; see `flow_matching`.
        stage_shift: Shift toward noise of training and sampling times inside each stage; 1, as in the paper, is none.
        history_noise: Largest share of noise in the frames that are read in training; the network is not told how
            much there is, and what it reads of its own frames then need not be perfect.
        first_steps: How many times the solver's steps of a later frame the first frame takes; 20 over 10 in the paper.
        first_guidance: How much farther the first frame is led: scale + first_guidance (scale - 1); 7 over 5 in the
            paper.
        text_dropout, scalar_dropout: See `ConditionedConfig`.

    """

    network: mmdit.Config = mmdit.Config()
    units: tuple[int, ...] = Field((1, 2, 1), min_length=1)
    prediction: _Said = "data"
    loss_on: _Said = "data"
    stage_shift: float = Field(1.0, gt=0)
    history_noise: float = Field(1 / 3, ge=0, lt=1)
    first_steps: int = Field(2, ge=1)
    first_guidance: float = Field(0.5, ge=0)

    @classmethod
    def tiny(cls) -> "Config":
        """Learns the sample videos on a laptop in minutes."""
        return cls(network=mmdit.Config(stem_channels=64), units=(1, 1))

    @classmethod
    def base(cls) -> "Config":
        """For latents of 32 x 32."""
        return cls(network=mmdit.Config(dim=768, double_depth=8, single_depth=16, heads=12))

    @classmethod
    def paper(cls) -> "Config":
        """The MMDiT of Stable Diffusion 3's width and depth, trained on velocities (arXiv:2410.05954, section 4.1)."""
        network = mmdit.Config(dim=1536, double_depth=24, single_depth=0, heads=24)
        return cls(network=network, prediction="velocity", loss_on="velocity")

    def build(self, space: Space) -> "PyramidFlow":
        """The family for samples and text of one space.

        Raises:
            VidgenError: The sides of a sample cannot be halved so often.

        """
        side = self.network.patch_px * 2 ** (len(self.units) - 1)
        if space.height % side or space.width % side or min(self.units) < 1:
            raise VidgenError(
                "A pyramid does not fit the samples",
                got=f"units {self.units} and patches of {self.network.patch_px} for {space.height} x {space.width}",
                allowed=f"at least one unit a stage, and sides that are multiples of {side}",
                move="Take fewer stages, smaller patches or other clips",
            )
        return PyramidFlow(self, space)


class PyramidFlow(Conditioned):
    """One player, one network, several stages."""

    accepts_known = True
    any_shape = True
    config: Config

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config, self.space = config, space
        self.stages = stages(len(config.units))
        self.network = config.network.build(space)

    def players(self) -> Mapping[str, Player]:
        """The network alone."""
        weights = dict(self.network.named_parameters())
        return {"generator": Player(weights, hidden=self.network.hidden_matrices())}

    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        """Mean squared error over some frames of each clip, each at one stage and one place in it.

        The frames are a random order of all, again and again, so that every frame is learned from equally often.
        """
        frames, count = batch.video.shape[2], sum(self.config.units)
        order = chance.uniform("units", batch.index, (frames,)).argsort(dim=1)
        chosen = order[:, torch.arange(count, device=order.device) % frames]
        rests = shift_times(chance.uniform("rest", batch.index, (count,)), self.config.stage_shift)
        corruption = self.config.history_noise * chance.uniform("corruption", batch.index)
        packing = Packing(frames, self.config.units)
        errors = self._errors(self._thinned(batch, chance), chance, packing, chosen, rests, corruption)
        yield "generator", torch.cat(errors, dim=1).mean()

    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        """Squared error by stage, of frames all over the clip with a clean history at fixed places, and the mean."""
        packing = Packing(batch.video.shape[2], self.config.units)
        clean = torch.zeros(len(batch.index), device=batch.video.device)
        found = []
        for turn, rest in enumerate(_HELD_OUT_RESTS):
            chosen = packing.spread_out((turn + 0.5) / len(_HELD_OUT_RESTS)).to(batch.video.device)
            chosen = chosen.expand(len(batch.index), -1)
            rests = torch.full(chosen.shape, rest, device=batch.video.device)
            found.append(self._errors(batch, chance.within(f"rest{rest}"), packing, chosen, rests, clean))
        by_stage = {
            f"stage{number}": torch.stack([errors[number].mean(1) for errors in found]).mean(0)
            for number in range(len(self.stages))
        }
        return {"loss": torch.stack(list(by_stage.values())).mean(0), **by_stage}

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        """One pass of the network over the packed frames of a clip, and its gradient."""
        groups = Packing(shape[1], self.config.units).sizes(shape[2], shape[3])
        return Work(self.network.flops(groups, text_tokens).step, self.network.tokens(groups))

    def generate(self, ask: Ask, chance: Chance) -> Latents:
        """Frame after frame, each from the coarsest stage to the finest; what is known is kept as it is.

        Frames that are known whole are read by all that come after them; those before do not know of them. Steps are
        taken once, whatever `ask.rounds`: the noise of a stage's line is none that could be added back.

        Raises:
            VidgenError: The sampler adds noise.

        """
        making = _Making(self, ask, chance)
        made: list[Latents] = []
        for number in range(ask.shape[1]):
            made.append(making.frame(number))
            if number + 1 < ask.shape[1]:
                making.history.add(made[-1])
        return torch.cat(made, dim=2)

    def _errors(
        self, batch: Batch, chance: Chance, packing: Packing, chosen: Tensor, rests: Tensor, corruption: Tensor
    ) -> list[Tensor]:
        """Mean squared error of each stage's units, float32 [B, units of the stage].

        Args:
            batch: What is learned from.
            chance: Where the noise comes from.
            packing: The units and what they read.
            chosen, rests: Each unit's frame, and the share of its stage that is still ahead of it, [B, units].
            corruption: Share of noise in what they read, [B].

        """
        numbers = packing.numbers(chosen)
        groups, lines = [], []
        levels = levels_of(batch.video, len(self.stages))
        own = numbers.split([len(group) for group in packing.groups], dim=1)
        by_stage = rests.split(packing.units, dim=1)
        for stage, video, at, rest in zip(self.stages, levels, own, by_stage, strict=True):
            values = _taken(video, at.clamp_min(0))
            noise = chance.normal(f"noise{stage.number}", batch.index, values.shape[1:])
            clean = values.shape[2] - rest.shape[1]
            part = corruption[:, None, None, None, None]
            history = (1 - part) * values[:, :, :clean] + part * noise[:, :, :clean]
            data, wide = values[:, :, clean:], rest[:, None, :, None, None]
            start, end = stage.ends(data, noise[:, :, clean:])
            x = wide * start + (1 - wide) * end
            lines.append((stage, data, x, wide, start - end))
            times = torch.cat([torch.zeros_like(rest[:, :1]).expand(-1, clean), stage.time(rest)], dim=1)
            groups.append(
                Frames(torch.cat([history, x], dim=2), at.to(times), times, self._scale(stage), rest.shape[1])
            )
        said, words = self.network.hear(batch.text, batch.scalars, len(batch.index))
        outputs, _ = self.network(groups, said, words, sees=packing.sees(numbers))
        return [self._error(output.float(), *line) for output, line in zip(outputs, lines, strict=True)]

    def _error(
        self, output: Latents, stage: Stage, data: Latents, x: Latents, rest: Tensor, velocity: Latents
    ) -> Tensor:
        """Mean squared error of what the loss is on, [B, frames]."""
        config = self.config
        said = _turned(output, config.prediction, config.loss_on, stage, x, rest)
        return ((said - (velocity if config.loss_on == "velocity" else data)) ** 2).mean((1, 3, 4))

    def _scale(self, stage: Stage) -> int:
        return int(2**stage.halvings)


class _Making:
    """Clips that are being made, and the frames of them that are finished."""

    def __init__(self, family: PyramidFlow, ask: Ask, chance: Chance) -> None:
        self._family, self._ask, self._chance = family, ask, chance
        how = ask.guiding
        led = ask.text is not None and not (ask.guidance == 1.0 and how.last_scale in (None, 1.0))
        text = ask.text
        if led and text is not None:
            text = text.beside(text.empty() if ask.negative is None else ask.negative)
        rows = len(ask.index) * (2 if led else 1)
        self._said, words = family.network.hear(text, family._scalars_of(ask)(rows), rows)
        self.history = History(family.network, self._said, words, len(family.stages))
        self._noise = chance.normal("sample", ask.index, ask.shape)
        self._sampler = discovery.load("vidgen_core.samplers", ask.sampler)

    def frame(self, number: int) -> Latents:
        """The next frame, [B, C, 1, H, W]."""
        ask, family = self._ask, self._family
        known, mask = None, None
        if ask.known is not None and ask.known_mask is not None:
            known, mask = (part[:, :, number : number + 1] for part in (ask.known, ask.known_mask))
            if mask.all():
                return known
        noise = self._noise[:, :, number : number + 1]
        total = len(family.stages)
        steps = max(1, round(ask.steps / total)) * (family.config.first_steps if number == 0 else 1)
        times = shift_times(RectifiedFlow().grid(steps), family.config.stage_shift).to(noise.device)
        knowns = None if known is None or mask is None else self._known(known, mask)
        x = coarser_noise(noise, total - 1)
        for stage in family.stages:
            own = coarser_noise(noise, stage.halvings)
            if stage.number:
                fresh = self._chance.within("frame", number, "stage", stage.number)
                x = renoise(x, stage, total, fresh.normal("sample", ask.index, own.shape[1:]))
            held = None if knowns is None else (*stage.ends(knowns[stage.number][0], own), knowns[stage.number][1])
            x = self._sampler.integrate(self._denoise(stage, number, held), x, times, _draw)
        return x if known is None or mask is None else torch.where(mask, known, x)

    def _denoise(
        self, stage: Stage, number: int, held: tuple[Latents, Latents, Tensor] | None
    ) -> Callable[[Latents, Tensor], Prediction]:
        """What a sampler asks in a stage, whose line is a rectified flow from its start (noise) to its end (data)."""
        family, ask = self._family, self._ask
        before = self.history.read_by_next(stage.number)
        own = family.config.prediction
        kind = own if ask.guiding.space is None else ask.guiding.space

        def denoise(x: Latents, rest: Tensor) -> Prediction:
            rests = rest.to(x).expand(len(x))
            wide = rests[:, None, None, None, None]
            if held is not None:
                start, end, mask = held
                x = torch.where(mask, wide * start + (1 - wide) * end, x)

            def network(x: Latents, t: Tensor, _: Text | None) -> Latents:
                return _turned(self._output(stage, number, before, x, t), own, kind, stage, x, wide[:1])

            follow = guided(
                network, ask.text, scale=self._scale(number), negative=ask.negative,
                how=ask.guiding.model_copy(update={"last_scale": None}),
            )  # fmt: skip
            velocity = _turned(follow(x, stage.time(rests)), kind, "velocity", stage, x, wide)
            return read("velocity", velocity, path=RectifiedFlow(), x=x, t=wide)

        return denoise

    def _output(self, stage: Stage, number: int, before: Kept | None, x: Latents, t: Tensor) -> Latents:
        """What the network says of a noisy frame; guidance asks for the first rows of what was said, or for all."""
        rows = len(x)
        frame = Frames(x, torch.full_like(t, float(number))[:, None], t[:, None], self._family._scale(stage), 1)
        return self._family.network([frame], self._said[:rows], None if before is None else before.rows(rows))[0][0]

    def _scale(self, number: int) -> float:
        """How far a frame is led; see `Config.first_guidance` and `Guidance.last_scale`."""
        ask, last = self._ask, self._ask.guiding.last_scale
        if last is not None:
            return ask.guidance + (last - ask.guidance) * number / max(1, ask.shape[1] - 1)
        farther = self._family.config.first_guidance * max(0.0, ask.guidance - 1) if number == 0 else 0.0
        return ask.guidance + farther

    def _known(self, known: Latents, mask: Tensor) -> list[tuple[Latents, Tensor]]:
        """Known values at each stage, and where all that a stage's line is made of there is known."""
        count = len(self._family.stages)
        masks = levels_of(mask.float(), count)
        # A stage starts with means of blocks of its own, or with noise alone.
        whole = [masks[0] == 1, *(finer(coarse) == 1 for coarse in masks[:-1])]
        return list(zip(levels_of(known, count), whole, strict=True))


def _turned(said: Latents, of: _Said, to: _Said, stage: Stage, x: Latents, rest: Tensor) -> Latents:
    """What is said of x, as data or as the velocity `start - end` of its line in a stage."""
    if of == to:
        return said
    if to == "data":
        return stage.data(said, x, rest)
    return stage.velocity(said, x, rest.clamp_min(_SMALLEST_REST) if stage.end_noise == 0 else rest)


def _taken(video: Latents, numbers: Tensor) -> Latents:
    """Frames of clips by number [B, n]."""
    index = numbers[:, None, :, None, None].expand(-1, video.shape[1], -1, *video.shape[3:])
    return video.gather(2, index)


def _draw(_: int) -> Tensor:
    raise VidgenError(
        "The sampler adds noise on its way, but what is noise in a stage of a pyramid is not the start of its line",
        got="an ancestral sampler",
        allowed="a deterministic one, such as euler, heun, dpm_solver_2m or unipc",
        move="Write --set sampling.sampler=heun",
    )
