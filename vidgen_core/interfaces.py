"""The contracts between the parts: what a learner, a family, a codec and a text encoder are.

A learner knows nothing of devices, ranks, files, Ray or MLflow; it holds networks and says how they learn.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from vidgen_core import digests, weights
from vidgen_core.chance import Chance
from vidgen_core.frozen import Frozen
from vidgen_core.sampling import Guidance
from vidgen_core.scalars import Scalar
from vidgen_core.shapes import Clips, Context, ContextMask, Index, Latents, Video

__all__ = [
    "Ask",
    "Batch",
    "Codec",
    "Family",
    "Frozen",
    "Learner",
    "Player",
    "Published",
    "Space",
    "Text",
    "TextEncoder",
    "VideoEncoder",
    "Work",
]


class Space(Frozen):
    """Where a family lives: the shape of one sample and of its text.

    Args:
        channels, frames, height, width: Shape of one clip in latents (in pixels with the identity codec).
        text_dim: Width of a text token; 0 when the run has no text.
        scalars: What else samples are conditioned on.

    """

    channels: int
    frames: int
    height: int
    width: int
    text_dim: int
    scalars: tuple[Scalar, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(channels, frames, height, width)."""
        return (self.channels, self.frames, self.height, self.width)


@dataclass(frozen=True)
class Text:
    """Encoded prompts: tokens [B, L, D] and mask [B, L], True where a token is real."""

    tokens: Context
    mask: ContextMask

    def to(self, device: torch.device | str) -> "Text":
        """The same text on another device, in single precision."""
        return Text(self.tokens.to(device).float(), self.mask.to(device))

    def where(self, keep: Tensor) -> "Text":
        """The same text with whole prompts emptied where `keep` [B] is False."""
        return replace(self, mask=self.mask & keep[:, None])

    def beside(self, other: "Text") -> "Text":
        """One batch of this text and then another."""
        return Text(torch.cat([self.tokens, other.tokens]), torch.cat([self.mask, other.mask]))

    def empty(self) -> "Text":
        """The unconditional text of the same shape: no token is real."""
        return replace(self, mask=torch.zeros_like(self.mask))


@dataclass(frozen=True)
class Batch:
    """What a learner learns from.

    Attributes:
        video: Latents, or pixels in [-1, 1], [B, C, T, H, W]; float32 once they are on their device.
        text: Encoded captions, or None for a learner that reads no text.
        index: Position of each sample in the run's global stream, int64 [B]; the key of its random draws.
        scalars: Further conditions by name, float [B] each in their own units, NaN where one is missing.

    """

    video: Latents
    text: Text | None
    index: Index
    scalars: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device, in single precision: it travels as it is stored, in half of the bytes.

        The numbers of the samples, which key draws on the CPU, stay there.
        """
        text = None if self.text is None else self.text.to(device)
        scalars = {name: values.to(device) for name, values in self.scalars.items()}
        return Batch(self.video.to(device).float(), text, self.index, scalars)


@dataclass(frozen=True)
class Ask:
    """A request to generate.

    Attributes:
        index: A number for each wanted sample, int64 [B]; with the seed it fixes the sample.
        shape: (channels, frames, height, width) of one sample, as the family sees it.
        text: Encoded prompts [B, L, D], or None.
        steps: Solver steps; families that need none ignore it.
        sampler: Name of a file in `vidgen_core/samplers`.
        guidance: Classifier-free guidance scale; 1 is none.
        guiding: Variant of the guidance.
        negative: What to lead away from, encoded like `text`; the empty prompt if None.
        known: Values of given elements [B, C, T, H, W], with `known_mask` [B, 1, T, H, W], True = given, keep.
        rounds: How often each solver step is taken where something is known, with noise added back in between; 1 is
            plain.
        scalars: Further conditions by name, float [B] each in their own units; NaN, or a name left out, is a missing
            one. Guidance leads away from all of them missing.

    """

    index: Index
    shape: tuple[int, int, int, int]
    text: Text | None = None
    steps: int = 20
    sampler: str = "heun"
    guidance: float = 1.0
    guiding: Guidance = Guidance()
    negative: Text | None = None
    known: Latents | None = None
    known_mask: Tensor | None = None
    rounds: int = 1
    scalars: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class Player:
    """One optimizer's share of a learner.

    Attributes:
        parameters: Its parameters by name.
        relative_rate: Its learning rate over the run's.
        betas: AdamW's moments, where those of the run would not do; None is the run's.
        hidden: Names of weight matrices between hidden layers, which Muon may take where a run asks for it.

    """

    parameters: Mapping[str, nn.Parameter]
    relative_rate: float = 1.0
    betas: tuple[float, float] | None = None
    hidden: frozenset[str] = frozenset()


class Published(NamedTuple):
    """What a paper says of a size: the space it was built for, and how many parameters it counts.

    A family's module lists them as `PUBLISHED`, by the name of the size.
    """

    space: Space
    parameters: float


class Work(NamedTuple):
    """What one sample costs in one training step.

    Attributes:
        flops: Floating-point operations of all turns, forward and backward; a multiply-add is two.
        tokens: Places that the network works on: tokens of a transformer, positions of a convolutional network.

    """

    flops: float
    tokens: int


class Learner(nn.Module, ABC):
    """Anything the loop can train: a generator, a codec, a captioner, a video encoder."""

    reads_text: ClassVar[bool] = True
    # Whether it learns clips of other shapes than that of its space as well.
    any_shape: ClassVar[bool] = False
    # Children of which every worker keeps all weights, because it needs them outside of a forward and backward pass.
    kept_whole: ClassVar[tuple[str, ...]] = ()
    # Children that are not compiled, because gradients of gradients are taken of them, or several of one pass.
    kept_eager: ClassVar[tuple[str, ...]] = ()
    # What it is told of its samples, by the names of columns in `Batch.scalars`; a clip that lacks one is not learned.
    labels: ClassVar[tuple[str, ...]] = ()
    # Whether a sample's loss hangs on the other samples of its step, on all workers: then pieces are no whole batch.
    joins_samples: ClassVar[bool] = False

    def begin(self) -> None:
        """Before a training: take over the trained weights of others that the settings name; most name none.

        Not in the constructor: what was trained is built again without them.

        Raises:
            VidgenError: They are not there, or do not fit.

        """
        return

    @abstractmethod
    def players(self) -> Mapping[str, Player]:
        """Who has an optimizer, by name; together they own each trainable parameter exactly once."""

    @abstractmethod
    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        """(player, scalar loss) in the order in which they step.

        Lazily: the code after a yield runs once that player has stepped, so a generator meets the updated critic.
        """

    @abstractmethod
    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        """The objective on data it never trained on: name -> value per sample, float [B].

        "loss" is always among the names; lower is better. What is drawn comes from `chance` alone.
        """

    @abstractmethod
    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        """The cost of one sample (channels, frames, height, width) with so many text tokens, by formula."""


class Family(Learner):
    """A selectable video generator: a learner that also generates. `<module>.Config.build(space)` makes one."""

    # What hybrids may wrap: families with an exact `log_likelihood` whose samples are `drawn` with a gradient; with a
    # `posterior` of codes and their `decode`, in two `halves`; with the methods of `families/_denoiser.py`.
    has_likelihood: ClassVar[bool] = False
    has_encoder: ClassVar[bool] = False
    has_denoiser: ClassVar[bool] = False
    has_guidance: ClassVar[bool] = True
    accepts_known: ClassVar[bool] = False
    # Whether guidance may lead away from another prompt than the empty one.
    accepts_negative: ClassVar[bool] = False
    accepts_scalars: ClassVar[bool] = False
    space: Space

    @abstractmethod
    def generate(self, ask: Ask, chance: Chance) -> Latents:
        """Samples [B, C, T, H, W] for an ask; a function of the weights, the ask and the seed only."""


class Codec(nn.Module, ABC):
    """Video to latents and back. `<module>.Config.build()` makes one; a trainable codec is a Learner as well.

    `config` builds it again, without its weights: what was opened from a path is then as good as our own.
    """

    config: Frozen
    channels: int
    time_stride: int
    space_stride: int
    causal: bool
    trainable: ClassVar[bool] = False

    @abstractmethod
    def encode(self, video: Video) -> Latents:
        """Latents of about zero mean and unit variance a channel."""

    @abstractmethod
    def decode(self, latents: Latents) -> Video:
        """Video in [-1, 1]."""

    @abstractmethod
    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(channels, frames, height, width) of a clip's latents.

        Raises:
            VidgenError: A clip of this shape does not fit the strides; the message names the nearest that do.

        """

    def measure(self, latents: Latents) -> None:
        """Once after training: set what normalizes, from `latents` as coded now; without statistics nothing happens."""
        del latents


class VideoEncoder(Learner):
    """Clips to feature vectors: what metrics, filters, deduplication and critics look through.

    `<module>.Config.build()` makes one; `config` builds it again, without its weights.
    """

    reads_text = False
    any_shape = True
    # How its small size learns, where that differs from what `vidgen encoder train` does unasked.
    learns: ClassVar[Mapping[str, int | float]] = {}
    config: Frozen
    dim: int

    @abstractmethod
    def embed(self, video: Video) -> Float[Tensor, "batch dim"]:
        """Features of video in [-1, 1] of any length and size, with a gradient."""

    @property
    def digest(self) -> str:
        """Changes when anything that could change a feature changes: file, configuration, weights."""
        config = self.config.model_dump(mode="json")
        return digests.of_value(
            [type(self).__module__.rpartition(".")[2], config, weights.digest_of(self.state_dict())]
        )

    @torch.inference_mode()
    def features(self, clips: Clips | NDArray[np.uint8], *, batch: int = 32) -> NDArray[np.float32]:
        """Features float32 [N, dim] of clips uint8 [N, T, H, W, 3], each by itself."""
        values, training, device = torch.as_tensor(clips), self.training, next(self.parameters()).device
        self.eval()
        parts = [some.to(device) for some in values.split(batch) if len(some)]
        rows = [self.embed(to_unit(part)).float().cpu().numpy() for part in parts]
        self.train(training)
        return np.concatenate(rows) if rows else np.empty((0, self.dim), np.float32)


class TextEncoder(ABC):
    """Captions to token vectors. `<module>.Config.build()` makes one."""

    dim: int
    tokens: int

    @property
    @abstractmethod
    def digest(self) -> str:
        """Changes when anything that could change an encoding changes: name, parameters, weights."""

    @abstractmethod
    def encode(self, captions: Sequence[str]) -> Text:
        """Encoded captions, [len(captions), tokens, dim] float32."""


def to_unit(clips: Clips) -> Video:
    """uint8 [B, T, H, W, 3] to float32 [B, 3, T, H, W] in [-1, 1]."""
    return clips.permute(0, 4, 1, 2, 3).float().div(127.5).sub(1.0).contiguous()


def to_clips(video: Video) -> Clips:
    """Float [B, 3, T, H, W] in [-1, 1] to uint8 [B, T, H, W, 3], rounded and clamped."""
    return video.add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()
