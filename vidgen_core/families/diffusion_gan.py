"""A denoiser of few large steps that learns from a critic, with a trained teacher or without one.

Without one it is a denoising diffusion GAN (Xiao et al. 2021, arXiv:2112.07804): a step is too large for its result to
be a Gaussian, so a critic tells pairs of a noisy sample and a less noisy one apart, real ones from those that the
predicted data make. Xiao et al. also give the network a latent z, so that it draws different data for one noisy sample.
Ours has none: what differs between draws is the noise of each step alone, and where a step could lead to several modes
the student answers with a blend of them, the more so the fewer steps it takes. With a teacher it starts from the
teacher's weights and is also drawn to what the teacher says of its samples: adversarial diffusion distillation (Sauer
et al. 2023, arXiv:2311.17042, eq. 1 and 4), which has no z either.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vidgen_core.chance import Chance
from vidgen_core.choices import FamilyChoice
from vidgen_core.families._critic import CriticConfig, critic_flops, critic_loss
from vidgen_core.families._denoiser import Denoiser
from vidgen_core.families._teacher import taught
from vidgen_core.families._wrapped import build, whole
from vidgen_core.guidance import guided
from vidgen_core.interfaces import Ask, Batch, Family, Player, Space, Text, Work
from vidgen_core.networks.conv_gan import ConvCritic, CriticSizes
from vidgen_core.objectives.adversarial import made_real
from vidgen_core.paths import Path as NoisePath
from vidgen_core.paths import expand_times
from vidgen_core.predictions import Prediction
from vidgen_core.samplers.ddpm import posterior
from vidgen_core.sampling import Guidance
from vidgen_core.shapes import Latents, PerSample

__all__ = ["Config", "DiffusionGAN"]


class Config(CriticConfig):
    """A few-step student.

    Args:
        teacher: The family of the student, and of its teacher, as name:size.
        teacher_weights: Where the trained teacher is: the folder of a generator, or a registered model as
            name@champion. Without it the student learns from data and critic alone, from its initial weights.
        critic: Sizes of the critic.
        steps: Steps from noise to data; it draws in fewer as well, best in a divisor of them.
        step: What a step draws: "ddpm" from the posterior given the predicted data, with fresh noise; "ddim" none.
        distillation_weight: Weight of the teacher's squared distance.
        teacher_guidance: Scale of classifier-free guidance that the teacher speaks with; the student needs none then.
        student_rate: Learning rate of a student that has a teacher, over the run's: it need not go far.
        loss, r1, mismatch, critic_rate, critic_betas: See `CriticConfig`.

    """

    teacher: Annotated[FamilyChoice, whole("has_denoiser")] = Field(
        FamilyChoice(name="flow_matching"), validate_default=True
    )
    teacher_weights: str = ""
    critic: CriticSizes = CriticSizes()
    steps: int = Field(4, ge=1)
    step: Literal["ddpm", "ddim"] = "ddpm"
    distillation_weight: float = Field(1.0, ge=0)
    teacher_guidance: float = Field(2.0, ge=1)
    student_rate: float = Field(0.1, gt=0)

    @classmethod
    def tiny(cls) -> "Config":
        """Learns the sample videos on a laptop in minutes."""
        return cls(teacher=FamilyChoice(name="flow_matching", size="tiny"), critic=CriticSizes.small())

    @classmethod
    def base(cls) -> "Config":
        """For clips of 64 x 64 latents."""
        return cls(teacher=FamilyChoice(name="flow_matching", size="base"), critic=CriticSizes.large())

    def build(self, space: Space) -> "DiffusionGAN":
        """The family for samples and text of one space."""
        return DiffusionGAN(self, space)


class DiffusionGAN(Family):
    """Two players: a critic of steps, and the student whose steps they are. The teacher does not learn."""

    has_guidance = False
    kept_eager = ("critic",)  # R1 has the gradient of its gradient
    accepts_known = True

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config, self.space = config, space
        self.student: Denoiser = build(config.teacher, space)
        self.teacher: Denoiser | None = (
            build(config.teacher, space).requires_grad_(False) if config.teacher_weights else None
        )
        # A pair of samples, and a plane that tells the time of the noisier one.
        self.critic = config.critic.critic(space.model_copy(update={"channels": 2 * space.channels + 1}))
        # Checkpoints and finished models lack the teacher, which `begin` reads where it lies.
        self.register_state_dict_post_hook(_drop_teacher)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_miss_no_teacher)  # type: ignore[no-untyped-call]

    @property
    def path(self) -> NoisePath:
        """How data become noise."""
        return self.student.path

    def begin(self) -> None:
        """Student and teacher take over the trained weights."""
        if self.teacher is not None:
            state = taught(Path(self.config.teacher_weights), self.config.teacher, self.space)
            self.teacher.load_state_dict(state)
            self.student.load_state_dict(state)

    def players(self) -> Mapping[str, Player]:
        """The critic and the student."""
        critic = self.config.player(dict(self.critic.named_parameters()))
        rate = 1.0 if self.teacher is None else self.config.student_rate
        students = {
            name: replace(player, relative_rate=player.relative_rate * rate)
            for name, player in self.student.players().items()
        }
        return {"critic": critic, **students}

    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        """The critic's loss on one step a sample, then the student's."""
        config, text, index = self.config, batch.text, batch.index
        number = (chance.uniform("step", index) * config.steps).floor()
        t, then, real, seen = self._steps(batch, number, chance)
        shape = batch.video.shape[1:]
        before = self._follow(real, then, chance.normal("real", index, shape))
        made = self._follow(seen, then, chance.normal("made", index, shape))
        judge = _StepCritic(self.critic, self.path, seen.x, t, then)
        yield "critic", critic_loss(config, judge, before, [made.detach()], text).mean()
        loss = made_real(config.loss, judge(made, text))
        if self.teacher is not None and config.distillation_weight:
            loss = loss + config.distillation_weight * self._distance(self.teacher, seen.data, batch, chance)
        yield "generator", loss.mean()

    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        """Squared error of the predicted data, and the critic's scores of real and made steps: means over the steps."""
        found: dict[str, list[Tensor]] = {"loss": [], "score_of_real": [], "score_of_made": []}
        shape = batch.video.shape[1:]
        for step in range(self.config.steps):
            here = chance.within("step", step)
            t, then, real, seen = self._steps(batch, torch.full_like(batch.index, step), here)
            judge = _StepCritic(self.critic, self.path, seen.x, t, then)
            found["loss"].append((seen.data.float() - batch.video).pow(2).flatten(1).mean(1))
            for name, one in (("real", real), ("made", seen)):
                noise = here.normal(name, batch.index, shape)
                found[f"score_of_{name}"].append(judge(self._follow(one, then, noise), batch.text))
        return {name: torch.stack(values).mean(0) for name, values in found.items()}

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        """The critic's turn and the student's through the critic, and the teacher's passes."""
        config, judged = self.config, self.critic.flops(text_tokens)
        made = self.student.network.flops(shape, text_tokens)
        total = made.step + critic_flops(config, judged) + 2 * judged.forward
        if self.teacher is not None and config.distillation_weight:
            total += made.forward * (2 if text_tokens and config.teacher_guidance != 1 else 1)
        return Work(total, self.student.network.tokens(shape))

    def generate(self, ask: Ask, chance: Chance) -> Latents:
        """In as many of its own steps as were asked for, or in all of them; guidance it has learned."""
        steps = min(ask.steps, self.config.steps)
        plain = replace(ask, steps=steps, sampler=self.config.step, guidance=1.0, guiding=Guidance(), negative=None)
        return self.student.generate(plain, chance)

    def _steps(
        self, batch: Batch, number: Tensor, chance: Chance
    ) -> tuple[PerSample, PerSample, Prediction, Prediction]:
        """Time of each sample's step and of the next, and what is true and what the student says at the first."""
        video, grid = batch.video, self.student.times(self.config.steps).to(batch.video)
        t, then = grid[number.long()], grid[number.long() + 1]
        times, noise = expand_times(t, video), chance.normal("noise", batch.index, video.shape[1:])
        x = self.path.mix(video, noise, times)
        real = Prediction(self.path, x, times, video, noise)
        return t, then, real, self.student.read(self.student.output(x, t, batch.text).float(), x, t)

    def _follow(self, seen: Prediction, then: PerSample, noise: Latents) -> Latents:
        """The sample at the next time, given what is said of the data."""
        after = expand_times(then, noise)
        if self.config.step == "ddim":
            return self.path.mix(seen.data, seen.noise, after)
        mean, deviation = posterior(seen, seen.t, after)
        return mean + deviation * noise

    def _distance(self, teacher: Denoiser, data: Latents, batch: Batch, chance: Chance) -> PerSample:
        """Squared distance of predicted data to what the teacher makes of them once they are noisy again.

        Errors at much noise count less, as the share that is left of the data (c(t) = alpha of a path of unit size).
        """
        chance = chance.within("teacher")
        t = teacher.draw_times(chance, batch.index)
        times = expand_times(t, data)
        with torch.no_grad():
            x = self.path.mix(data, chance.normal("noise", batch.index, data.shape[1:]), times)
            say = guided(teacher.output, batch.text, scale=self.config.teacher_guidance)
            wanted = teacher.read(say(x, t).float(), x, t).data
            share = self.path.alpha(t) * (self.path.alpha(t) ** 2 + self.path.sigma(t) ** 2).rsqrt()
        return share * (data.float() - wanted).pow(2).flatten(1).mean(1)


@dataclass(frozen=True)
class _StepCritic:
    """The critic of samples at the next time, beside the noisier ones that they come from; both of unit size."""

    critic: ConvCritic
    path: NoisePath
    x: Latents
    t: PerSample
    then: PerSample

    def __call__(self, sample: Latents, text: Text | None) -> PerSample:
        return self.score(self.look(sample), text)

    def look(self, sample: Latents) -> Tensor:
        """What the critic sees of samples, where they come from, and when."""
        told = expand_times(self.t, self.x).expand(-1, 1, *self.x.shape[2:])
        return self.critic.look(torch.cat([self._scaled(sample, self.then), self._scaled(self.x, self.t), told], dim=1))

    def score(self, seen: Tensor, text: Text | None) -> PerSample:
        """The critic's."""
        return self.critic.score(seen, text)

    def _scaled(self, sample: Latents, time: PerSample) -> Latents:
        time = expand_times(time, sample)
        return sample * (self.path.alpha(time) ** 2 + self.path.sigma(time) ** 2).rsqrt()


def _is_teachers(name: str) -> bool:
    return name.startswith("teacher.")


def _drop_teacher(family: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    del family, metadata
    for name in [name for name in state if _is_teachers(name.removeprefix(prefix))]:
        del state[name]


def _miss_no_teacher(family: nn.Module, keys: Any) -> None:
    del family
    keys.missing_keys[:] = [name for name in keys.missing_keys if not _is_teachers(name)]
