"""A generator and a critic of 3-D convolutions.

Residual blocks as in Zhang et al. 2018, "SAGAN" (arXiv:1805.08318) and Brock et al. 2018, "BigGAN" (arXiv:1809.11096),
in space and time; the critic's score of a sample and a text is a projection (Miyato and Koyama 2018, arXiv:1802.05637).
Norms run over channels at each place, not over batches, so that a sample does not depend on its neighbors.
"""

import math
from collections.abc import Callable, Iterable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vidgen_core.interfaces import Frozen, Space, Text
from vidgen_core.layers.flops import Flops, convolution, product
from vidgen_core.layers.norms import RMSNorm
from vidgen_core.layers.spectral import normalized
from vidgen_core.layers.zeroed import zeroed
from vidgen_core.shapes import Latents, PerSample

__all__ = ["Config", "ConvCritic", "ConvGenerator", "CriticSizes"]

_SMALLEST_SIDE = 4


class CriticSizes(Frozen):
    """Sizes of a critic.

    Args:
        text_dim: Width to which a prompt is brought.
        widths: Channels from the largest map to the smallest; the last one serves all maps beyond.

    """

    text_dim: int = 64
    widths: tuple[int, ...] = (64, 128, 128)

    @classmethod
    def small(cls) -> "CriticSizes":
        """For latents of the sample videos."""
        return cls(widths=(32, 64, 64))

    @classmethod
    def large(cls) -> "CriticSizes":
        """For clips of 64 x 64 latents."""
        return cls(text_dim=128, widths=(96, 192, 384, 384))

    def critic(self, space: Space) -> "ConvCritic":
        """The critic for samples and text of one space."""
        return ConvCritic(self, space)


class Config(CriticSizes):
    """Sizes of both networks.

    Args:
        text_dim, widths: See `CriticSizes`.
        noise_dim: Width of the noise vector.

    """

    noise_dim: int = 64

    def generator(self, space: Space) -> "ConvGenerator":
        """The generator for samples and text of one space."""
        return ConvGenerator(self, space)


def _sizes(space: Space) -> list[tuple[int, int, int]]:
    """(frames, height, width) of the maps from the sample's own down to at most 4 x 4 pixels, halved each time."""
    sizes = [(space.frames, space.height, space.width)]
    while max(sizes[-1][1:]) > _SMALLEST_SIDE:
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))  # type: ignore[arg-type]
    return sizes


def _width(config: CriticSizes, level: int) -> int:
    return config.widths[min(level, len(config.widths) - 1)]


class _Sentence(nn.Module):
    """The words of a prompt to one vector; an empty prompt is the vector 0."""

    def __init__(self, text_dim: int, dim: int, wrap: Callable[[nn.Linear], nn.Linear] = lambda layer: layer) -> None:
        super().__init__()
        self.embed = wrap(nn.Linear(text_dim, dim, bias=False)) if text_dim else None
        self.dim = dim

    def forward(self, text: Text | None, batch: int, like: Tensor) -> Float[Tensor, "batch dim"]:
        if self.embed is None or text is None:
            return like.new_zeros(batch, self.dim)
        return (self.embed(text.tokens) * text.mask[..., None]).sum(1)

    def flops(self, tokens: int) -> Flops:
        """Of a prompt of so many tokens."""
        return Flops() if self.embed is None else product(self.embed, tokens).on_data


class _UpBlock(nn.Module):
    """A residual block that grows a map to a given size; a condition scales and shifts its norms."""

    def __init__(self, channels: int, out_channels: int, condition: int) -> None:
        super().__init__()
        self.norm_in = RMSNorm(channels, elementwise_affine=False)
        self.norm_between = RMSNorm(out_channels, elementwise_affine=False)
        self.modulation_in = zeroed(nn.Linear(condition, 2 * channels))
        self.modulation_between = zeroed(nn.Linear(condition, 2 * out_channels))
        self.conv_in = normalized(nn.Conv3d(channels, out_channels, 3, padding=1))
        self.conv_out = normalized(nn.Conv3d(out_channels, out_channels, 3, padding=1))
        self.skip = normalized(nn.Conv3d(channels, out_channels, 1))

    def forward(self, x: Tensor, condition: Tensor, size: tuple[int, int, int]) -> Tensor:
        x_large = F.interpolate(x, size=size)
        hidden = F.relu(_modulated(x_large, self.norm_in, self.modulation_in(condition)))
        hidden = F.relu(_modulated(self.conv_in(hidden), self.norm_between, self.modulation_between(condition)))
        return self.skip(x_large) + self.conv_out(hidden)

    def flops(self, size: tuple[int, int, int]) -> Flops:
        """Of one sample that it grows to a size."""
        places = math.prod(size)
        total = convolution(self.conv_in, places) + convolution(self.conv_out, places) + convolution(self.skip, places)
        return total + product(self.modulation_in, 1) + product(self.modulation_between, 1)


class ConvGenerator(nn.Module):
    """Noise [B, noise_dim] and text to a sample."""

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config = config
        self.sizes = _sizes(space)
        condition = config.noise_dim + config.text_dim
        top = len(self.sizes) - 1
        self.first_shape = (_width(config, top), *self.sizes[top])
        self.sentence = _Sentence(space.text_dim, config.text_dim)
        first_values = torch.Size(self.first_shape).numel()
        self.first = normalized(nn.Linear(condition, first_values))
        # One block stays at the smallest size, then one leads to each larger one.
        channels = [_width(config, top), *(_width(config, level) for level in range(top, -1, -1))]
        self.blocks = nn.ModuleList(
            _UpBlock(before, after, condition) for before, after in zip(channels[:-1], channels[1:], strict=True)
        )
        self.norm_out = RMSNorm(channels[-1])
        self.to_out = normalized(nn.Conv3d(channels[-1], space.channels, 3, padding=1))
        self.scale = nn.Parameter(torch.ones(space.channels, 1, 1, 1))

    def forward(self, noise: Float[Tensor, "batch noise"], text: Text | None) -> Latents:
        """A sample for each row of noise."""
        condition = torch.cat([noise, self.sentence(text, len(noise), noise)], dim=1)
        x = self.first(condition).unflatten(1, self.first_shape)
        for block, size in zip(self.blocks, reversed(self.sizes), strict=True):
            x = block(x, condition, size)
        return self.scale * self.to_out(F.relu(_normed(x, self.norm_out)))

    def flops(self, text_tokens: int) -> Flops:
        """Of one sample with so many text tokens."""
        total = self.sentence.flops(text_tokens) + product(self.first, 1)
        total += convolution(self.to_out, math.prod(self.sizes[0]))
        for block, size in zip(cast("Iterable[_UpBlock]", self.blocks), reversed(self.sizes), strict=True):
            total += block.flops(size)
        return total


class ConvCritic(nn.Module):
    """A sample and its text to a score, higher for real pairs; every weight is spectrally normalized."""

    def __init__(self, config: CriticSizes, space: Space) -> None:
        super().__init__()
        self.sizes = sizes = _sizes(space)
        widths = [_width(config, level) for level in range(len(sizes))]
        self.strides = [
            tuple(-(-above // below) for above, below in zip(large, small, strict=True))
            for large, small in zip(sizes[:-1], sizes[1:], strict=True)
        ]
        self.first = normalized(nn.Conv3d(space.channels, widths[0], 3, padding=1))
        self.blocks = nn.ModuleList(
            _DownBlock(before, after) for before, after in zip([widths[0], *widths[:-1]], widths, strict=True)
        )
        self.sentence = _Sentence(space.text_dim, config.text_dim, normalized)
        self.to_score = normalized(nn.Linear(widths[-1], 1))
        self.to_text = normalized(nn.Linear(widths[-1], config.text_dim))

    def forward(self, sample: Latents, text: Text | None) -> PerSample:
        """One score a sample."""
        return self.score(self.look(sample), text)

    def look(self, sample: Latents) -> Tensor:
        """The smallest map."""
        return self.features(sample)[-1]

    def features(self, sample: Latents, maps: int | None = None) -> list[Tensor]:
        """Maps after each block, from the largest to the smallest; only the first so many of them if `maps` says so."""
        x, found = self.first(sample), []
        for level, block in enumerate(cast("Iterable[_DownBlock]", self.blocks[:maps])):
            x = block(x, self.strides[level - 1] if level else (1, 1, 1))
            found.append(x)
        return found

    def flops(self, text_tokens: int) -> Flops:
        """Of one real sample with so many text tokens."""
        heads = product(self.to_score, 1) + product(self.to_text, 1)
        return self.features_flops() + self.sentence.flops(text_tokens) + heads

    def features_flops(self, maps: int | None = None) -> Flops:
        """Of the first so many maps of one real sample; of all if None."""
        total = convolution(self.first, math.prod(self.sizes[0])).on_data
        # A block works on the map that it shrinks.
        sizes = [self.sizes[0], *self.sizes]
        for block, size in zip(cast("Iterable[_DownBlock]", self.blocks[:maps]), sizes, strict=False):
            total += block.flops(size)
        return total

    def score(self, features: Tensor, text: Text | None) -> PerSample:
        """The score that a smallest map and a text get, in float32."""
        pooled = F.relu(features).mean((2, 3, 4))
        said = self.sentence(text, len(pooled), pooled)
        return self.to_score(pooled)[:, 0].float() + (self.to_text(pooled) * said).float().sum(1)


class _DownBlock(nn.Module):
    """A residual block that shrinks a map by averaging."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_in = normalized(nn.Conv3d(channels, out_channels, 3, padding=1))
        self.conv_out = normalized(nn.Conv3d(out_channels, out_channels, 3, padding=1))
        self.skip = normalized(nn.Conv3d(channels, out_channels, 1))

    def forward(self, x: Tensor, stride: tuple[int, ...]) -> Tensor:
        out = self.skip(x) + self.conv_out(F.relu(self.conv_in(F.relu(x))))
        return out if max(stride) == 1 else F.avg_pool3d(out, stride, ceil_mode=True)

    def flops(self, size: tuple[int, int, int]) -> Flops:
        """Of one sample of the size before it shrinks."""
        places = math.prod(size)
        return convolution(self.conv_in, places) + convolution(self.conv_out, places) + convolution(self.skip, places)


def _normed(x: Tensor, norm: RMSNorm) -> Tensor:
    """The norm over channels of [B, C, T, H, W]."""
    return norm(x.movedim(1, -1)).movedim(-1, 1)


def _modulated(x: Tensor, norm: RMSNorm, modulation: Tensor) -> Tensor:
    shift, scale = modulation[..., None, None, None].chunk(2, dim=1)
    return _normed(x, norm) * (1 + scale) + shift
