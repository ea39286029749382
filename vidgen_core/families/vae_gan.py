"""A variational autoencoder whose reconstructions are judged by a critic that learns beside it.

Larsen et al. 2015, "Autoencoding beyond pixels using a learned similarity metric" (arXiv:1512.09300): what is close to
a sample is said by the features of a critic, and the decoder must convince that critic too.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from vidgen_core.chance import Chance
from vidgen_core.choices import FamilyChoice
from vidgen_core.families._critic import CriticConfig, critic_flops, critic_loss
from vidgen_core.families._wrapped import build, whole
from vidgen_core.families.vae import VAE
from vidgen_core.interfaces import Ask, Batch, Family, Player, Space, Work
from vidgen_core.layers.flops import Flops, product
from vidgen_core.networks.conv_gan import CriticSizes
from vidgen_core.objectives.adversarial import made_real
from vidgen_core.objectives.gaussians import divergence, drawn
from vidgen_core.shapes import Latents, PerSample

__all__ = ["VAEGAN", "Config"]


class Config(CriticConfig):
    """A variational autoencoder with a critic.

    Args:
        vae: The family with an encoder, as name:size.
        critic: Sizes of the critic.
        feature_map: Which of the critic's maps measures likeness, counted from the largest, 0.
        feature_weight: Weight of the squared distance in that map, a mean over its elements, against nats per element.
        pixel_weight: Weight of the wrapped family's own reconstruction; the paper has none.
        adversarial_weight: Weight of what the critic says of reconstructions and of draws, in the decoder's loss alone.
        loss, r1, mismatch, critic_rate, critic_betas: See `CriticConfig`.

    """

    vae: Annotated[FamilyChoice, whole("has_encoder")] = Field(FamilyChoice(name="vae"), validate_default=True)
    critic: CriticSizes = CriticSizes()
    feature_map: int = Field(1, ge=0)
    feature_weight: float = Field(1.0, ge=0)
    pixel_weight: float = Field(1.0, ge=0)
    adversarial_weight: float = Field(0.05, ge=0)

    @classmethod
    def tiny(cls) -> "Config":
        """Learns the sample videos on a laptop in minutes."""
        return cls(vae=FamilyChoice(name="vae", size="tiny"), critic=CriticSizes.small())

    @classmethod
    def base(cls) -> "Config":
        """For clips of 64 x 64 latents."""
        return cls(vae=FamilyChoice(name="vae", size="base"), critic=CriticSizes.large())

    def build(self, space: Space) -> "VAEGAN":
        """The family for samples and text of one space."""
        return VAEGAN(self, space)


class VAEGAN(Family):
    """Three players: encoder, decoder, critic. The critic's judgment never reaches the encoder."""

    has_guidance = False
    kept_eager = ("critic",)  # R1 has the gradient of its gradient

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config, self.space = config, space
        self.vae: VAE = build(config.vae, space)
        self.critic = config.critic.critic(space)

    def players(self) -> Mapping[str, Player]:
        """The wrapped family's halves and the critic."""
        encoder, decoder = self.vae.halves()
        critic = dict(self.critic.named_parameters())
        return {
            "encoder": Player(encoder),
            "decoder": Player(decoder),
            "critic": self.config.player(critic),
        }

    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        """Divergence and likeness; likeness and judgment; the critic's own. All three see one draw of the codes."""
        config, vae, text = self.config, self.vae, batch.text
        mean, log_variance = (part.float() for part in vae.posterior(batch.video, text))
        codes = drawn(mean, log_variance, chance.normal("posterior", batch.index, vae.codes))
        with torch.no_grad():
            wanted = self._measured(batch.video)
        seen = vae.decode(codes, text)
        rate = vae.weighted(divergence(mean, log_variance, *vae.prior_of(text, mean)), batch.index)
        loss = self._unlikeness(batch.video, seen, wanted, self._measured(seen)) + rate / self._elements
        yield "encoder", loss.mean()

        with torch.no_grad():
            prior = vae.prior_of(text, mean)
            free = drawn(*prior, chance.normal("sample", batch.index, vae.codes))
        seen, made = vae.decode(codes.detach(), text), vae.decode(free, text)
        maps = self.critic.features(seen)
        judged = [self.critic.score(maps[-1], text), self.critic(made, text)]
        loss = self._unlikeness(batch.video, seen, wanted, maps[self._level])
        loss = loss + config.adversarial_weight * sum(made_real(config.loss, score) for score in judged) / 2
        if not config.pixel_weight:
            # The deviation of pixels is still measured, so that the bound that is reported stays one.
            loss = loss + vae.distortion(batch.video, seen.detach()) / self._elements
        yield "decoder", loss.mean()

        yield "critic", critic_loss(config, self.critic, batch.video, [seen.detach(), made.detach()], text).mean()

    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        """What the wrapped family says (its bound is the loss), and the critic's scores of real and made samples."""
        drawn_ones = self.vae.generate(Ask(batch.index, self.space.shape, batch.text), chance)
        scores = {
            "score_of_real": self.critic(batch.video, batch.text),
            "score_of_made": self.critic(drawn_ones, batch.text),
        }
        return {**self.vae.held_out(batch, chance), **scores}

    def generate(self, ask: Ask, chance: Chance) -> Latents:
        """As the wrapped family: one pass of the decoder for a draw of the prior."""
        return self.vae.generate(ask, chance)

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        """The encoder's turn through decoder and critic, the decoder's with two videos, and the critic's."""
        network = self.vae.network
        encode, decode = (half(shape, text_tokens) for half in (network.encoder_flops, network.decoder_flops))
        words = Flops() if network.words is None else network.words.flops(text_tokens)
        prior, judged = self.vae.prior_flops(text_tokens), self.critic.flops(text_tokens)
        measured = self.critic.features_flops(self._level + 1).forward
        # To the codes passes the gradient of all but the keys and values of the text; no weight on the way takes one.
        back = decode.products - network.reading_flops(text_tokens).products + 2.5 * decode.attention
        first = encode.step + prior.step + 2 * words.forward + decode.forward + back + 3 * measured
        # No gradient passes on to the codes.
        fixed = product(network.from_codes, network.config.codes).products
        second = prior.forward + 2 * (decode.step - fixed + words.step) + 4 * judged.forward
        third = critic_flops(self.config, judged, made=2)
        return Work(first + second + third, network.tokens(shape))

    @property
    def _level(self) -> int:
        return min(self.config.feature_map, len(self.critic.blocks) - 1)

    @property
    def _elements(self) -> int:
        return math.prod(self.space.shape)

    def _measured(self, video: Latents) -> Tensor:
        """The critic's map in which likeness is measured."""
        return self.critic.features(video, self._level + 1)[-1]

    def _unlikeness(self, video: Latents, seen: Latents, wanted: Tensor, found: Tensor) -> PerSample:
        """Half the squared distance of features (eq. 7), and the wrapped family's reconstruction, per element."""
        distance = (found.float() - wanted.float()).pow(2).flatten(1).mean(1) / 2
        loss = self.config.feature_weight * distance
        if self.config.pixel_weight:
            loss = loss + self.config.pixel_weight * self.vae.distortion(video, seen) / self._elements
        return loss
