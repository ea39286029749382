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
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Ask, Batch, Family, Frozen, Player, Space, Text, Work
from vidgen_core.networks import conv_gan
from vidgen_core.objectives.adversarial import AdversarialLoss, as_fake, as_real, gradient_length, made_real
from vidgen_core.shapes import Latents

__all__ = ["GAN", "Config"]


class Config(Frozen):
    """A generative adversarial network.

    Args:
        network: Sizes of generator and critic.
        loss: What both minimize.
        r1: Weight gamma of the squared gradient on real samples, over 2; 0 is none.
        mismatch: Weight of real samples with the text of another one, called made.
        critic_rate: Learning rate of the critic over that of the generator. Heusel et al. 2017 (arXiv:1706.08500).

    """

    network: conv_gan.Config = conv_gan.Config()
    loss: AdversarialLoss = "hinge"
    r1: float = Field(0.1, ge=0)
    mismatch: float = Field(0.5, ge=0)
    critic_rate: float = Field(4.0, gt=0)

    @classmethod
    def tiny(cls) -> "Config":
        """Learns the sample videos on a laptop in minutes."""
        return cls()

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

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config, self.space = config, space
        self.generator = config.network.generator(space)
        self.critic = config.network.critic(space)

    def players(self) -> Mapping[str, Player]:
        """The critic and the generator."""
        return {
            "critic": Player(dict(self.critic.named_parameters()), relative_rate=self.config.critic_rate),
            "generator": Player(dict(self.generator.named_parameters())),
        }

    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        """The critic's loss, then the generator's."""
        config, text = self.config, batch.text
        with torch.no_grad():
            made = self._draw(batch.index, text, chance.within("critic"))
        loss = as_real(config.loss, self.critic(batch.video, text)) + as_fake(config.loss, self.critic(made, text))
        if text is not None and config.mismatch:
            other, differs = swapped(text)
            loss = loss + config.mismatch * differs * as_fake(config.loss, self.critic(batch.video, other))
        if config.r1:
            length = gradient_length(lambda video: self.critic(video, text), batch.video)
            loss = loss + config.r1 / 2 * length**2
        yield "critic", loss.mean()
        made = self._draw(batch.index, text, chance.within("generator"))
        yield "generator", made_real(config.loss, self.critic(made, text)).mean()

    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        """What the critic says of real samples it never met and of made ones; its loss falls where it tells them apart.

        A score of real samples that falls while that of training samples rises is a critic that knows them by heart.
        """
        real = self.critic(batch.video, batch.text)
        made = self.critic(self._draw(batch.index, batch.text, chance), batch.text)
        loss = as_real(self.config.loss, real) + as_fake(self.config.loss, made)
        return {"loss": loss, "score_of_real": real, "score_of_made": made}

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        """The critic's turn on made, real and wrongly described samples, then the generator's through the critic."""
        made, judged = self.generator.flops(text_tokens), self.critic.flops(text_tokens)
        passes = 3 if text_tokens and self.config.mismatch else 2
        total = made.forward + passes * judged.step
        if self.config.r1:
            # Forward, the gradient at the sample, and the gradient of both: two products for each product.
            total += 6 * judged.forward
        # The generator's gradient passes through the critic, whose weights take none.
        return Work(total + made.step + 2 * judged.forward, math.prod(shape[1:]))

    def generate(self, ask: Ask, chance: Chance) -> Latents:
        """One pass of the generator."""
        return self._draw(ask.index, ask.text, chance)

    def _draw(self, index: Tensor, text: Text | None, chance: Chance) -> Latents:
        return self.generator(chance.normal("sample", index, (self.config.network.noise_dim,)), text)


def swapped(text: Text) -> tuple[Text, Tensor]:
    """Each sample's text given to its neighbor (0 with 1, 2 with 3 ...), and 1.0 where that changes anything, [B].

    Neighbors, not the batch shifted by one: so a batch that is cut into pieces of even size pairs the same samples.

    Raises:
        VidgenError: The number of samples is odd, so that one has no neighbor.

    """
    if len(text.mask) % 2:
        raise VidgenError(
            "Samples cannot be paired to tell a critic what does not belong together",
            got=f"{len(text.mask)} samples a worker and pass",
            allowed="an even number",
            move="Set training.batch to a multiple of 2 * workers * accumulate, or family mismatch=0",
        )
    order = torch.arange(len(text.mask), device=text.mask.device) ^ 1
    other = Text(text.tokens[order], text.mask[order])
    same = ((text.tokens == other.tokens).all(-1) & (text.mask == other.mask)).all(1)
    return other, (~same).to(text.tokens.dtype)
