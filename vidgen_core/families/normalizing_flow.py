"""A normalizing flow: an invertible network between videos and noise, learned by its exact likelihood.

Zhai et al. 2024, "TarFlow" (arXiv:2412.06329), or coupling layers as in Kingma and Dhariwal 2018, "Glow"
(arXiv:1807.03039).
"""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import torch
from pydantic import Discriminator, Field, Tag
from torch import Tensor

from vidgen_core.chance import Chance
from vidgen_core.frozen import kind_or
from vidgen_core.interfaces import Ask, Batch, Family, Frozen, Player, Space, Text, Work
from vidgen_core.networks import coupling_flow, tarflow
from vidgen_core.shapes import Latents

__all__ = ["Config", "NormalizingFlow"]


class Config(Frozen):
    """A normalizing flow.

    Args:
        network: Transformers ("tarflow") or coupling layers ("coupling").
        noise_std: Deviation of the noise that is added to data before their likelihood is taken; without it a flow
            spends itself on directions in which data do not vary.
        denoise: Whether samples are denoised by the flow's own score: y + noise_std^2 grad log p(y) (Tweedie's
            formula; Zhai et al. 2024, section 3.3).
        inverse: How transformers are inverted: "sequential", token by token, or "jacobi", all at once until nothing
            moves by more than a thousandth.
        text_dropout: Share of training samples whose text is emptied, for guidance.

    """

    network: Annotated[
        Annotated[tarflow.Config, Tag("tarflow")] | Annotated[coupling_flow.Config, Tag("coupling")],
        Discriminator(kind_or("tarflow")),
    ] = tarflow.Config()
    noise_std: float = Field(0.1, ge=0)
    denoise: bool = True
    inverse: Literal["sequential", "jacobi"] = "sequential"
    text_dropout: float = Field(0.1, ge=0, le=1)

    @classmethod
    def tiny(cls) -> "Config":
        """Learns the sample videos on a laptop in minutes."""
        return cls()

    @classmethod
    def base(cls) -> "Config":
        """For clips of 64 x 64 latents."""
        return cls(network=tarflow.Config(dim=768, blocks=6, depth=4, heads=12, patch_frames=2, patch_px=8))

    def build(self, space: Space) -> "NormalizingFlow":
        """The family for samples and text of one space."""
        return NormalizingFlow(self, space)


class NormalizingFlow(Family):
    """One player, one invertible network."""

    has_likelihood = True

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config, self.space = config, space
        self.network = config.network.build(space)
        self.has_guidance = isinstance(self.network, tarflow.TarFlow)  # type: ignore[misc]

    def players(self) -> Mapping[str, Player]:
        """The network."""
        return {"generator": Player(dict(self.network.named_parameters()))}

    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        """Negative log likelihood of noisy data, in nats per element."""
        text = batch.text
        if text is not None:
            text = text.where(chance.uniform("text_dropout", batch.index) >= self.config.text_dropout)
        yield "generator", self._noisy_likelihood(batch, text, chance).neg().mean()

    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        """The same, a value a sample, and in bits; of pixels in [-1, 1] with 8 bits these are 7 more."""
        loss = -self._noisy_likelihood(batch, batch.text, chance)
        return {"loss": loss, "bits_per_dimension": loss / math.log(2)}

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        """One pass of the network and its gradient."""
        return Work(self.network.flops(shape, text_tokens).step, self.network.tokens(shape))

    def log_likelihood(self, video: Latents, text: Text | None) -> Tensor:
        """Log density of samples, in nats [B]: log N(f(x); 0, I) + log |det df/dx|."""
        noise, log_volume = self.network(video, text)
        squares = noise.float().pow(2).flatten(1)
        return log_volume.float() - 0.5 * (squares + math.log(2 * math.pi)).sum(1)

    def generate(self, ask: Ask, chance: Chance) -> Latents:
        """The inverse of a draw of noise, denoised."""
        noise = chance.normal("sample", ask.index, ask.shape)
        if isinstance(self.network, coupling_flow.CouplingFlow):
            video = self.network.inverse(noise, ask.text)
        else:
            tolerance = 1e-3 if self.config.inverse == "jacobi" else None
            video = self.network.inverse(noise, ask.text, guidance=ask.guidance, tolerance=tolerance)
        if not (self.config.denoise and self.config.noise_std):
            return video
        return video + self.config.noise_std**2 * self.score(video, ask.text)

    def drawn(self, noise: Latents, text: Text | None, *, iterations: int) -> Latents:
        """Noisy samples, as they are learned, of noise: the inverse with a gradient, in full precision.

        Args:
            noise: [B, C, T, H, W].
            text: Prompts.
            iterations: How many find the gradient of one block of transformers; see `networks/tarflow.py`.

        """
        with torch.autocast(noise.device.type, enabled=False):
            return self.network.drawn(noise, text, iterations=iterations)

    def noisy(self, batch: Batch, chance: Chance) -> Latents:
        """The samples as they are learned."""
        noise = chance.normal("noise", batch.index, batch.video.shape[1:])
        return batch.video + self.config.noise_std * noise

    def score(self, video: Latents, text: Text | None) -> Latents:
        """Gradient of the log density with respect to the samples."""
        # Samplers run without gradients and in inference mode, whose tensors no gradient can be taken of.
        with torch.inference_mode(mode=False), torch.enable_grad():
            at = video.clone().requires_grad_()
            said = None if text is None else Text(text.tokens.clone(), text.mask.clone())
            (gradient,) = torch.autograd.grad(self.log_likelihood(at, said).sum(), at)
        return gradient

    def _noisy_likelihood(self, batch: Batch, text: Text | None, chance: Chance) -> Tensor:
        return self.log_likelihood(self.noisy(batch, chance), text) / math.prod(batch.video.shape[1:])
