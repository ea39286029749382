"""Factorized space-time U-Net. Ho et al. 2022, "Video Diffusion Models" (arXiv:2204.03458), section 3.

A U-Net for images whose convolutions see one frame each, (1,3,3); after each attention in space, inside a frame,
stands an attention in time, at each place, with relative position biases (Shaw et al. 2018, arXiv:1803.02155, in the
buckets of Raffel et al. 2019, arXiv:1910.10683, section 2.1). Noise time and pooled text scale and shift inside the
residual blocks; words are read by cross attention.

Frames can be kept apart: then they attend in time to themselves alone, and each is an image of its own, which is how
the paper trains on videos and images together.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Literal, cast

import torch
from jaxtyping import Bool, Float
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Frozen, Space, Text
from vidgen_core.layers.attention import CrossAttention, SelfAttention
from vidgen_core.layers.causal import Size, SpaceConv, SpaceUpsample
from vidgen_core.layers.embeddings import TimeEmbedding, sinusoids
from vidgen_core.layers.flops import Flops, product
from vidgen_core.layers.relative import RelativeBias
from vidgen_core.layers.scalars import ScalarEmbedding
from vidgen_core.shapes import Latents, Times

__all__ = ["Config", "UNet3D"]

Features = Float[Tensor, "batch frames height width channels"]
Condition = Float[Tensor, "batch frames_or_1 dim"]
Words = tuple[Tensor, Tensor]


class Config(Frozen):
    """Sizes of the network.

    Args:
        kind: Names this network among those of a family.
        base: Channels of the first level.
        multipliers: Channels of each level over `base`; between levels height and width are halved.
        blocks: Residual blocks of a level on the way down; there is one more on the way up.
        attention: For each level whether its blocks attend in space; all levels attend in time.
        head_dim: Channels of an attention head.

    """

    kind: Literal["unet3d"] = "unet3d"
    base: int = 32
    multipliers: tuple[int, ...] = (1, 2, 4)
    blocks: int = 1
    attention: tuple[bool, ...] = (False, True, True)
    head_dim: int = 32

    @classmethod
    def paper(cls) -> "Config":
        """For 16 frames of 64 x 64 pixels (appendix A)."""
        return cls(base=256, multipliers=(1, 2, 4, 8), blocks=2, attention=(False, True, True, True), head_dim=64)

    @model_validator(mode="after")
    def _one_answer_a_level(self) -> "Config":
        if len(self.attention) != len(self.multipliers):
            raise VidgenError(
                "Each level of the U-Net needs to be told whether it attends in space",
                got=f"{len(self.attention)} answers for {len(self.multipliers)} levels",
                move="Give `attention` as many entries as `multipliers`",
            )
        return self

    @property
    def condition_dim(self) -> int:
        """Width of the embedding of time and text."""
        return 4 * self.base

    def build(self, space: Space) -> "UNet3D":
        """The network for samples and text of one space."""
        return UNet3D(self, space)


class ResidualBlock(nn.Module):
    """Two convolutions inside frames; the condition scales and shifts what is between them. Starts as a projection.

    Norms run over channels at each place: a group norm, as in the paper, would pool over a whole frame, and over all
    frames unless they are told apart.
    """

    def __init__(self, in_channels: int, channels: int, condition_dim: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(in_channels)
        self.conv_in = SpaceConv(in_channels, channels)
        self.modulation = nn.Linear(condition_dim, 2 * channels)
        self.norm_between = nn.LayerNorm(channels)
        self.conv_out = SpaceConv(channels, channels)
        self.skip = nn.Linear(in_channels, channels) if in_channels != channels else None
        nn.init.zeros_(self.conv_out.weight)

    def forward(self, x: Features, condition: Condition) -> Features:
        """Features of the same size with other channels."""
        shift, scale = self.modulation(condition)[:, :, None, None].chunk(2, dim=-1)
        between = torch.addcmul(shift, self.norm_between(self.conv_in(F.silu(self.norm_in(x)))), 1 + scale)
        return (x if self.skip is None else self.skip(x)) + self.conv_out(F.silu(between))

    def flops(self, size: Size) -> Flops:
        """Of one video of one size, whose frames have one condition."""
        skip = Flops() if self.skip is None else product(self.skip, math.prod(size))
        return self.conv_in.flops(size) + self.conv_out.flops(size) + product(self.modulation, 1) + skip


class SpaceTimeAttention(nn.Module):
    """Attention inside each frame, to the words, and along time at each place, each beside the identity."""

    def __init__(self, channels: int, head_dim: int, context_dim: int, *, space: bool) -> None:
        super().__init__()
        heads = max(1, channels // head_dim)
        self.norm_space = nn.LayerNorm(channels) if space else None
        self.in_space = SelfAttention(channels, heads) if space else None
        self.norm_words = nn.LayerNorm(channels) if space and context_dim else None
        self.to_words = CrossAttention(channels, context_dim, heads) if space and context_dim else None
        self.norm_time = nn.LayerNorm(channels)
        self.in_time = SelfAttention(channels, heads)
        self.bias = RelativeBias(heads)
        for layer in (self.in_space, self.to_words, self.in_time):
            if layer is not None:
                nn.init.zeros_(layer.to_out.weight)

    def forward(self, x: Features, words: Words | None, together: Tensor | None) -> Features:
        """Shape kept; `together` [B, T, T] says which frames may see each other, None that all may."""
        batch, frames, height, width, channels = x.shape
        rows = x.flatten(2, 3)
        if self.in_space is not None and self.norm_space is not None:
            rows = rows + self.in_space(self.norm_space(rows).flatten(0, 1)).view_as(rows)
        if self.to_words is not None and self.norm_words is not None and words is not None:
            rows = rows + self.to_words(self.norm_words(rows).flatten(1, 2), *words).view_as(rows)
        bias = self.bias(frames)
        if together is not None:
            bias = bias.masked_fill(~together[:, None], -math.inf).repeat_interleave(height * width, dim=0)
        places = self.norm_time(rows).transpose(1, 2).flatten(0, 1)
        moved = self.in_time(places, bias).unflatten(0, (batch, height * width)).transpose(1, 2)
        return (rows + moved).reshape(batch, frames, height, width, channels)

    def flops(self, size: Size, entries: int) -> Flops:
        """Of one video of one size, with so many text tokens."""
        frames, places = size[0], size[1] * size[2]
        total = self.in_time.flops(places, frames, biased=True)
        if self.in_space is not None:
            total += self.in_space.flops(frames, places)
        if self.to_words is not None and entries:
            total += self.to_words.flops(frames * places, entries)
        return total


class Level(nn.Module):
    """A residual block and the attention behind it."""

    def __init__(self, in_channels: int, channels: int, config: Config, *, text: bool, space: bool) -> None:
        super().__init__()
        context_dim = config.condition_dim if text else 0
        self.block = ResidualBlock(in_channels, channels, config.condition_dim)
        self.attention = SpaceTimeAttention(channels, config.head_dim, context_dim, space=space)

    def forward(self, x: Features, condition: Condition, words: Words | None, together: Tensor | None) -> Features:
        """Features of the same size."""
        return self.attention(self.block(x, condition), words, together)

    def flops(self, size: Size, entries: int) -> Flops:
        """Of one video of one size."""
        return self.block.flops(size) + self.attention.flops(size, entries)


class UNet3D(nn.Module):
    """Network of a video denoiser: `(x [B,C,T,H,W], t [B] or [B,T], text) -> [B,C,T,H,W]`."""

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config, self.space = config, space
        dim, text = config.condition_dim, space.text_dim > 0
        widths = [config.base * factor for factor in config.multipliers]
        self.time = TimeEmbedding(dim)
        self.text_tokens = nn.Linear(space.text_dim, dim) if text else None
        self.text_pooled = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim)) if text else None
        self.conv_in = SpaceConv(space.channels, widths[0])
        channels, kept = widths[0], [widths[0]]
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        for number, (width, space_too) in enumerate(zip(widths, config.attention, strict=True)):
            for _ in range(config.blocks):
                self.down.append(Level(channels, width, config, text=text, space=space_too))
                channels = width
                kept.append(channels)
            if number + 1 < len(widths):
                self.shrink.append(SpaceConv(channels, channels, stride=2))
                kept.append(channels)
        self.middle = Level(channels, channels, config, text=text, space=True)
        self.middle_out = ResidualBlock(channels, channels, dim)
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for number, (width, space_too) in reversed(list(enumerate(zip(widths, config.attention, strict=True)))):
            for _ in range(config.blocks + 1):
                self.up.append(Level(channels + kept.pop(), width, config, text=text, space=space_too))
                channels = width
            if number:
                self.grow.append(SpaceConv(channels, channels))
        self.scalars = ScalarEmbedding(space.scalars, dim) if space.scalars else None
        self.enlarge = SpaceUpsample()
        self.norm_out = nn.LayerNorm(channels)
        self.conv_out = SpaceConv(channels, space.channels)
        nn.init.zeros_(self.conv_out.weight)

    def forward(
        self, x: Latents, t: Times, text: Text | None, scalars: Mapping[str, Tensor] | None = None, *,
        apart: Bool[Tensor, "batch frames"] | None = None,
    ) -> Latents:  # fmt: skip
        """Prediction for noisy `x` at time `t`; frames where `apart` is True are images that see no other frame."""
        condition, words = self._read(t if t.ndim == 2 else t[:, None], text, scalars)
        together = None if apart is None else _together(apart)
        x = self.conv_in(x.permute(0, 2, 3, 4, 1).contiguous())
        kept = [x]
        for number, level in enumerate(self.down):
            x = level(x, condition, words, together)
            kept.append(x)
            if self._ends_level(number, self.config.blocks) and len(self.shrink) > number // self.config.blocks:
                x = self.shrink[number // self.config.blocks](x)
                kept.append(x)
        x = self.middle_out(self.middle(x, condition, words, together), condition)
        for number, level in enumerate(self.up):
            x = level(torch.cat([x, kept.pop()], dim=-1), condition, words, together)
            place = number // (self.config.blocks + 1)
            if self._ends_level(number, self.config.blocks + 1) and len(self.grow) > place:
                height, width = kept[-1].shape[2:4]
                # A side that was odd was rounded up when it was halved.
                x = self.grow[place](self.enlarge(x)[:, :, :height, :width])
        return self.conv_out(F.silu(self.norm_out(x))).permute(0, 4, 1, 2, 3)

    def hidden_matrices(self) -> frozenset[str]:
        """Names of the weight matrices between hidden layers: neither at an end of the network nor read by a norm."""
        inside = re.compile(r"^(down|shrink|middle|middle_out|up|grow)\.")
        return frozenset(
            name
            for name, weight in self.named_parameters()
            if weight.ndim == 2 and inside.search(name) and ".modulation." not in name and ".bias." not in name
        )

    def flops(self, shape: tuple[int, int, int, int], text_tokens: int) -> Flops:
        """Of one sample (channels, frames, height, width) with so many text tokens and one time for all frames."""
        size: Size = shape[1:]
        total = self.time.flops(1) + self.conv_in.flops(size).on_data + self.conv_out.flops(size)
        if self.text_tokens is not None and self.text_pooled is not None and text_tokens:
            total += product(self.text_tokens, text_tokens).on_data
            total += product(self.text_pooled[0], 1) + product(self.text_pooled[2], 1)
        sizes = [size]
        for conv in cast("Iterable[SpaceConv]", self.shrink):
            total += conv.flops(sizes[-1])
            sizes.append(conv.after(sizes[-1]))
        for number, level in enumerate(cast("Iterable[Level]", self.down)):
            total += level.flops(sizes[number // self.config.blocks], text_tokens)
        total += self.middle.flops(sizes[-1], text_tokens) + self.middle_out.flops(sizes[-1])
        for number, level in enumerate(cast("Iterable[Level]", self.up)):
            total += level.flops(sizes[-1 - number // (self.config.blocks + 1)], text_tokens)
        for number, conv in enumerate(cast("Iterable[SpaceConv]", self.grow)):
            total += conv.flops(sizes[-2 - number])
        return total

    def tokens(self, shape: tuple[int, int, int, int]) -> int:
        """Places of the finest level."""
        return math.prod(shape[1:])

    @staticmethod
    def _ends_level(number: int, blocks: int) -> bool:
        return (number + 1) % blocks == 0

    def _read(self, t: Tensor, text: Text | None, scalars: Mapping[str, Tensor] | None) -> tuple[Tensor, Words | None]:
        """The activated condition of all frames, or of each, and the words with their mask."""
        condition = self.time(t)
        if self.scalars is not None:
            condition = condition + self.scalars(scalars or {}, len(t))[:, None]
        if self.text_tokens is None or self.text_pooled is None or text is None:
            return F.silu(condition), None
        words = self.text_tokens(text.tokens)
        condition = condition + self.text_pooled((words * text.mask[..., None]).sum(1))[:, None]
        places = sinusoids(torch.arange(words.shape[1], device=words.device), words.shape[-1], max_period=100.0)
        return F.silu(condition), (words + places, text.mask)


def _together(apart: Tensor) -> Tensor:
    """[B, T, T]: a frame sees itself, and others where neither is apart."""
    one, other = apart[:, :, None], apart[:, None]
    return ~(one | other) | torch.eye(apart.shape[1], dtype=torch.bool, device=apart.device)
