"""A generative adversarial network: a generator of videos, and a critic that learns to tell them from real ones.

Goodfellow et al. 2014 (arXiv:1406.2661). The critic judges a video together with its text: real videos with the texts
of others are called made (Reed et al. 2016, arXiv:1605.05396, "matching-aware").
"""

import math
from collections.abc import Iterator, Mapping

import torch
from pydantic import Field
from torch import Tensor

from vidgen_core.chance import Chance
from vidgen_core.families._critic import CriticConfig, critic_flops, critic_loss
from vidgen_core.interfaces import Ask, Batch, Family, Player, Space, Text, Work
from vidgen_core.networks import conv_gan
from vidgen_core.objectives.adversarial import made_real
from vidgen_core.shapes import Latents

__all__ = ["GAN", "Config"]


class Config(CriticConfig):
    """A generative adversarial network.

    Args:
        network: Sizes of generator and critic.
        generator_rate: Learning rate of the generator over the run's.
        loss, r1, mismatch, critic_rate, critic_betas: See `CriticConfig`.

    """

    network: conv_gan.Config = conv_gan.Config()
    generator_rate: float = Field(0.4, gt=0)

    @classmethod
    def tiny(cls) -> "Config":
        """Learns the sample videos on a laptop in minutes: small, as a game takes many turns."""
        return cls(network=conv_gan.Config.small())

    @classmethod
    def base(cls) -> "Config":
        """For clips of 64 x 64 pixels."""
        return cls(network=conv_gan.Config(noise_dim=128, text_dim=128, widths=(96, 192, 384, 384)))

    def build(self, space: Space) -> "GAN":
        """The family for samples and text of one space."""
        return GAN(self, space)


class GAN(Family):
    """Two players: the critic moves first, then the generator against the critic as it has become."""

    has_guidance = False
    kept_eager = ("critic",)  # R1 has the gradient of its gradient

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config, self.space = config, space
        self.generator = config.network.generator(space)
        self.critic = config.network.critic(space)

    def players(self) -> Mapping[str, Player]:
        """The critic and the generator."""
        config = self.config
        return {
            "critic": config.player(dict(self.critic.named_parameters())),
            "generator": Player(
                dict(self.generator.named_parameters()), relative_rate=config.generator_rate, betas=config.critic_betas
            ),
        }

    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        """The critic's loss, then the generator's."""
        config, text = self.config, batch.text
        with torch.no_grad():
            made = self._draw(batch.index, text, chance.within("critic"))
        yield "critic", critic_loss(config, self.critic, batch.video, [made], text).mean()
        made = self._draw(batch.index, text, chance.within("generator"))
        yield "generator", made_real(config.loss, self.critic(made, text)).mean()

    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        """What the generator minimizes, and what the critic says of real samples it never met and of made ones.

        The loss is a critic's who learns as well: it tells steps near each other apart, not good models from bad ones.
        A score of real samples that falls while that of training samples rises is a critic that knows them by heart.
        """
        made = self.critic(self._draw(batch.index, batch.text, chance), batch.text)
        real = self.critic(batch.video, batch.text)
        return {"loss": made_real(self.config.loss, made), "score_of_real": real, "score_of_made": made}

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        """The critic's turn on made, real and wrongly described samples, then the generator's through the critic."""
        made, judged = self.generator.flops(text_tokens), self.critic.flops(text_tokens)
        total = made.forward + critic_flops(self.config, judged)
        # The generator's gradient passes through the critic, whose weights take none.
        return Work(total + made.step + 2 * judged.forward, math.prod(shape[1:]))

    def generate(self, ask: Ask, chance: Chance) -> Latents:
        """One pass of the generator."""
        return self._draw(ask.index, ask.text, chance)

    def _draw(self, index: Tensor, text: Text | None, chance: Chance) -> Latents:
        return self.generator(chance.normal("sample", index, (self.config.network.noise_dim,)), text)
