"""A variational autoencoder that generates: the decoder draws a video from its text and from a draw of the prior.

Kingma and Welling 2013 (arXiv:1312.6114); the variance of the pixels is learned, which removes the choice of a weight
between reconstruction and divergence (Rybkin et al. 2020, "sigma-VAE", arXiv:2006.13202).
"""

import math
from collections.abc import Iterator, Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from vidgen_core.chance import Chance
from vidgen_core.interfaces import Ask, Batch, Family, Frozen, Player, Space, Text, Work
from vidgen_core.layers.flops import Flops, product
from vidgen_core.networks import information_model
from vidgen_core.objectives.gaussians import divergence, drawn, negative_log_likelihood
from vidgen_core.shapes import Latents

__all__ = ["VAE", "Config"]

_LOG_VARIANCE_RANGE = (-12.0, 4.0)
# Of the samples given codes and text; a small one makes reconstruction count more than divergence at first.
_FIRST_LOG_VARIANCE = -3.0


class Config(Frozen):
    """A text-conditional variational autoencoder.

    Args:
        network: Sizes of encoder and decoder.
        prior_reads_text: Whether the prior's mean and variance depend on the text; otherwise it is N(0, I).
        divergence_weight: Weight (beta) of the divergence; 1 is the evidence lower bound, 0 an autoencoder. Higgins et
            al. 2017.
        warmup_samples: Samples of training over which that weight rises from 0. Codes mean nothing for the first few
            hundred steps; a divergence that counts from the start teaches the decoder not to read them.
        free_nats: Divergence of a code's element below which nothing is gained. Kingma et al. 2016 (arXiv:1606.04934).

    """

    network: information_model.Config = information_model.Config()
    prior_reads_text: bool = False
    divergence_weight: float = Field(1.0, ge=0)
    warmup_samples: int = Field(50_000, ge=0)
    free_nats: float = Field(0.0, ge=0)

    @classmethod
    def tiny(cls) -> "Config":
        """Learns the sample videos on a laptop in minutes."""
        return cls()

    @classmethod
    def base(cls) -> "Config":
        """For clips of 64 x 64 latents."""
        network = information_model.Config(
            dim=512, encoder_depth=8, decoder_depth=8, heads=8, patch_frames=2, patch_px=4, codes=32, code_dim=32
        )
        return cls(network=network)

    def build(self, space: Space) -> "VAE":
        """The family for samples and text of one space."""
        return VAE(self, space)


class VAE(Family):
    """One player: encoder and decoder learn together."""

    has_encoder = True
    has_guidance = False

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config, self.space = config, space
        self.network = config.network.build(space)
        self.log_variance = nn.Parameter(torch.tensor(_FIRST_LOG_VARIANCE))
        self.codes = (config.network.codes, config.network.code_dim)
        reads = config.prior_reads_text and space.text_dim > 0
        self.prior = nn.Linear(space.text_dim, 2 * math.prod(self.codes)) if reads else None

    def players(self) -> Mapping[str, Player]:
        """Everything."""
        return {"generator": Player(dict(self.named_parameters()))}

    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        """The negative evidence lower bound, in nats per element of a sample."""
        distortion, rate = self._bound(batch, chance)
        loss = distortion + self.weighted(rate, batch.index)
        yield "generator", (loss / math.prod(self.space.shape)).mean()

    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        """The bound's negative in nats per element, the divergence in nats, and the squared error of a draw."""
        distortion, rate = self._bound(batch, chance)
        rate = rate.flatten(1).sum(1)
        codes, _ = self.posterior(batch.video, batch.text)
        error = (self.decode(codes, batch.text) - batch.video) ** 2
        elements = math.prod(self.space.shape)
        return {"loss": (distortion + rate) / elements, "divergence": rate, "squared_error": error.flatten(1).mean(1)}

    def generate(self, ask: Ask, chance: Chance) -> Latents:
        """One pass of the decoder for a draw of the prior."""
        noise = chance.normal("sample", ask.index, self.codes)
        return self.decode(drawn(*self.prior_of(ask.text, noise), noise), ask.text)

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        """One pass through encoder and decoder and its gradient."""
        total = self.network.flops(shape, text_tokens) + self.prior_flops(text_tokens)
        return Work(total.step, self.network.tokens(shape))

    def weighted(self, rate: Tensor, index: Tensor) -> Tensor:
        """What the divergences of the codes' elements [B, codes, code_dim] count in the loss of each sample, [B]."""
        weight = torch.full_like(rate[:, 0, 0], self.config.divergence_weight)
        if self.config.warmup_samples:
            weight = weight * (index.to(weight) / self.config.warmup_samples).clamp_max(1)
        return weight * rate.clamp_min(self.config.free_nats).flatten(1).sum(1)

    def distortion(self, video: Latents, seen: Latents) -> Tensor:
        """Nats to draw each sample from its mean video, [B]."""
        spread = self.log_variance.clamp(*_LOG_VARIANCE_RANGE)
        return negative_log_likelihood(video, seen.float(), spread).flatten(1).sum(1)

    def halves(self) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
        """Weights of the encoder, with the prior that its divergence is from, and those of the decoder, by name."""
        parts = self.network.halves()
        encoder, decoder = ({f"network.{name}": value for name, value in part.items()} for part in parts)
        if self.prior is not None:
            encoder |= {f"prior.{name}": value for name, value in self.prior.named_parameters()}
        return encoder, {**decoder, "log_variance": self.log_variance}

    def prior_flops(self, text_tokens: int) -> Flops:
        """Of the prior that so many text tokens give."""
        return Flops() if self.prior is None or not text_tokens else product(self.prior, 1).on_data

    def posterior(self, video: Latents, text: Text | None) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the codes of a video, [B, codes, code_dim] each."""
        return self.network.encode(video, text)

    def decode(self, codes: Tensor, text: Text | None) -> Latents:
        """The mean video of codes."""
        return self.network.decode(codes, text)

    def prior_of(self, text: Text | None, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the prior, shaped like codes [B, codes, code_dim]."""
        if self.prior is None or text is None:
            return torch.zeros_like(like), torch.zeros_like(like)
        said = (text.tokens * text.mask[..., None]).sum(1)
        mean, log_variance = self.prior(said).unflatten(-1, (2, *self.codes)).unbind(1)
        return mean, log_variance.clamp(-8.0, 8.0)

    def _bound(self, batch: Batch, chance: Chance) -> tuple[Tensor, Tensor]:
        """Nats to draw each sample from its code [B], and the divergence of its code's elements, both in float32."""
        mean, log_variance = (part.float() for part in self.posterior(batch.video, batch.text))
        noise = chance.normal("posterior", batch.index, self.codes)
        distortion = self.distortion(batch.video, self.decode(drawn(mean, log_variance, noise), batch.text))
        return distortion, divergence(mean, log_variance, *self.prior_of(batch.text, mean))
