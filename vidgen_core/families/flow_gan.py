"""A normalizing flow that learns by its likelihood and from a critic of what it draws.

Grover et al. 2017, "Flow-GAN" (arXiv:1705.08868), section 4: a flow is a generator as well, whose samples a critic can
judge while their exact likelihood stays known. Likelihood and samples pull apart: the critic sharpens the one and
costs bits of the other, which is why both are reported.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated

from pydantic import Field
from torch import Tensor

from vidgen_core.chance import Chance
from vidgen_core.choices import FamilyChoice
from vidgen_core.families._critic import CriticConfig, critic_flops, critic_loss
from vidgen_core.families._wrapped import build, whole
from vidgen_core.families.normalizing_flow import NormalizingFlow
from vidgen_core.interfaces import Ask, Batch, Family, Player, Space, Work
from vidgen_core.networks.conv_gan import CriticSizes
from vidgen_core.objectives.adversarial import made_real
from vidgen_core.shapes import Latents

__all__ = ["Config", "FlowGAN"]


class Config(CriticConfig):
    """A normalizing flow with a critic.

    Args:
        flow: The family with a likelihood, as name:size.
        critic: Sizes of the critic.
        adversarial_weight: Weight lambda of what the critic says of samples, beside nats per element; 0 leaves the
            critic out, and learns as the wrapped family alone.
        gradient_iterations: How many find the gradient of a sample in one block of transformers; as many as there are
            patches find it exactly.
        loss, r1, mismatch, critic_rate, critic_betas: See `CriticConfig`.

    """

    flow: Annotated[FamilyChoice, whole("has_likelihood")] = Field(
        FamilyChoice(name="normalizing_flow"), validate_default=True
    )
    critic: CriticSizes = CriticSizes()
    adversarial_weight: float = Field(0.05, ge=0)
    gradient_iterations: int = Field(4, ge=0)

    @classmethod
    def tiny(cls) -> "Config":
        """Learns the sample videos on a laptop in minutes."""
        flow = FamilyChoice(name="normalizing_flow", size="tiny")
        # More iterations make a step half as long again, and samples no nearer (docs/log.md).
        return cls(flow=flow, critic=CriticSizes.small(), gradient_iterations=1)

    @classmethod
    def base(cls) -> "Config":
        """For clips of 64 x 64 latents."""
        return cls(flow=FamilyChoice(name="normalizing_flow", size="base"), critic=CriticSizes.large())

    def build(self, space: Space) -> "FlowGAN":
        """The family for samples and text of one space."""
        return FlowGAN(self, space)


class FlowGAN(Family):
    """Two players: the critic judges what the flow draws, then the flow learns from data and from the critic."""

    # The gradient of a sample is found by further passes while the backward pass is under way.
    kept_whole = ("flow",)
    kept_eager = ("flow", "critic")  # and R1 has the gradient of the critic's

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config, self.space = config, space
        self.flow: NormalizingFlow = build(config.flow, space)
        self.critic = config.critic.critic(space) if config.adversarial_weight else None
        # Guidance would lead away from what the critic has judged.
        self.has_guidance = self.critic is None and self.flow.has_guidance  # type: ignore[misc]

    def players(self) -> Mapping[str, Player]:
        """The critic, where there is one, and the flow."""
        if self.critic is None:
            return self.flow.players()
        critic = self.config.player(dict(self.critic.named_parameters()))
        return {"critic": critic, **self.flow.players()}

    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        """The critic's loss, then the wrapped family's own and the critic's judgment. Both judge one draw.

        The flow learns the density of noisy data, so noisy data are what its samples are compared with.
        """
        config, text, critic = self.config, batch.text, self.critic
        if critic is None:
            yield from self.flow.losses(batch, chance)
            return
        noise = chance.normal("sample", batch.index, batch.video.shape[1:])
        made = self.flow.drawn(noise, text, iterations=config.gradient_iterations)
        real = self.flow.noisy(batch, chance)
        yield "critic", critic_loss(config, critic, real, [made.detach()], text).mean()
        judgment = made_real(config.loss, critic(made, text)).mean()
        for player, loss in self.flow.losses(batch, chance):
            yield player, loss + config.adversarial_weight * judgment

    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        """What the wrapped family says (likelihood is the loss), and the critic's scores of real and made samples."""
        values = self.flow.held_out(batch, chance)
        if self.critic is not None:
            noise = chance.normal("sample", batch.index, batch.video.shape[1:])
            made = self.flow.drawn(noise, batch.text, iterations=0)
            values["score_of_real"] = self.critic(self.flow.noisy(batch, chance), batch.text)
            values["score_of_made"] = self.critic(made, batch.text)
        return values

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        """The wrapped family's; a sample and the critic's turn; the sample's gradient through the critic."""
        learned = self.flow.work(shape, text_tokens)
        if self.critic is None:
            return learned
        judged = self.critic.flops(text_tokens)
        made = self.flow.network.drawn_flops(shape, text_tokens, iterations=self.config.gradient_iterations)
        total = learned.flops + made + critic_flops(self.config, judged) + 2 * judged.forward
        return Work(total, learned.tokens)

    def generate(self, ask: Ask, chance: Chance) -> Latents:
        """As the wrapped family; without guidance where a critic has judged."""
        return self.flow.generate(ask if self.has_guidance else replace(ask, guidance=1.0), chance)
