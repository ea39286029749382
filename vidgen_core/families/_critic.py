"""What families with a critic share: its settings, its loss, and what its turn costs."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Frozen, Player, Text
from vidgen_core.layers.flops import Flops
from vidgen_core.objectives.adversarial import AdversarialLoss, as_fake, as_real, gradient_length
from vidgen_core.shapes import Latents, PerSample

__all__ = ["CriticConfig", "Judge", "critic_flops", "critic_loss", "swapped"]


class CriticConfig(Frozen):
    """How a critic learns.

    Args:
        loss: What the critic and who makes samples minimize.
        r1: Weight gamma of the squared gradient on real samples, over 2; 0 is none.
        mismatch: Weight of real samples with the text of another one, called made.
        critic_rate: Learning rate of the critic over the run's. Heusel et al. 2017 (arXiv:1706.08500).
        critic_betas: AdamW's moments of the critic, and of a generator that learns from nothing else. A first moment
            follows an opponent that is no longer there; Brock et al. 2018 (arXiv:1809.11096) take none.

    """

    loss: AdversarialLoss = "hinge"
    r1: float = Field(0.1, ge=0)
    mismatch: float = Field(0.5, ge=0)
    critic_rate: float = Field(0.8, gt=0)
    critic_betas: tuple[float, float] = (0.0, 0.99)

    def player(self, critic: Mapping[str, nn.Parameter]) -> Player:
        """The critic's share of a learner."""
        return Player(critic, relative_rate=self.critic_rate, betas=self.critic_betas)


class Judge(Protocol):
    """A critic in two halves, so that samples are looked at once whatever they are judged with."""

    def look(self, sample: Latents) -> Tensor:
        """What it sees of samples."""

    def score(self, seen: Tensor, text: Text | None) -> PerSample:
        """Scores of what it saw with a text, higher for real pairs."""


def critic_loss(
    config: CriticConfig, critic: Judge, real: Latents, made: Sequence[Latents], text: Text | None
) -> PerSample:
    """What a critic minimizes, [B]: on real samples, on each kind of made ones, and on wrongly described real ones.

    Kinds of made samples share the weight that one kind has alone.
    """
    # A clone is no leaf: PyTorch's counter of operations cannot see through one.
    real = real.detach().requires_grad_().clone() if config.r1 else real
    seen = critic.look(real)
    score = critic.score(seen, text)
    loss = as_real(config.loss, score)
    for samples in made:
        loss = loss + as_fake(config.loss, critic.score(critic.look(samples), text)) / len(made)
    if text is not None and config.mismatch:
        other, differs = swapped(text)
        loss = loss + config.mismatch * differs * as_fake(config.loss, critic.score(seen, other))
    if config.r1:
        loss = loss + config.r1 / 2 * gradient_length(score, real) ** 2
    return loss


def critic_flops(config: CriticConfig, judged: Flops, *, made: int = 1) -> float:
    """Operations of a critic's turn, where one pass costs `judged` and there are so many kinds of made samples.

    The second score of what was seen once, of real samples with the text of others, is left out.
    """
    # R1: forward, the gradient at the sample, and the gradient of both: two products for each product.
    return made * judged.step + (6 * judged.forward if config.r1 else judged.step)


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
