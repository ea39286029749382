"""Inception-v1 inflated to three dimensions. Carreira and Zisserman 2017, "Quo Vadis, Action Recognition?"
(arXiv:1705.07750), figure 3.

Modules bear the names of the public PyTorch weights (`Conv3d_1a_7x7.conv3d.weight` ...), so that those load unchanged.
"""  # noqa: D205

import math
import re
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vidgen_core.interfaces import Frozen
from vidgen_core.layers.across import BatchNorm
from vidgen_core.layers.flops import Flops, convolution

__all__ = ["I3D", "Config", "inflated", "renamed"]

# Output channels of the branches of each block: 1x1; 1x1 and 3x3; 1x1 and 3x3; pooling and 1x1.
_MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
# Pooling (kernel, stride) that stands before a block.
_POOLED_BEFORE = {
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}

Video = Float[Tensor, "batch channels frames height width"]
Size = tuple[int, int, int]


class Config(Frozen):
    """Sizes of the network.

    Args:
        classes: Number of classes.
        channels: 3 for color, 2 for optical flow.
        width: Multiplies all channels; 1 is the paper's.
        stem_kernel, stem_stride: (time, space) of the first convolution; (7, 7) and (2, 2) are the paper's.
        last_pool: (frames, pixels) averaged before the classifier; None averages over all that is left.
        dropout: Share of features that the classifier does not see in training.

    """

    classes: int = 400
    channels: int = 3
    width: float = 1.0
    stem_kernel: tuple[int, int] = (7, 7)
    stem_stride: tuple[int, int] = (2, 2)
    last_pool: tuple[int, int] | None = (2, 7)
    dropout: float = Field(0.5, ge=0, lt=1)

    def build(self) -> "I3D":
        """The untrained network."""
        return I3D(self)


class Unit(nn.Module):
    """Convolution without bias, batch norm, ReLU; with a bias and neither of them it is a classifier."""

    def __init__(
        self, channels: int, out_channels: int, kernel: Sequence[int], stride: Sequence[int] = (1, 1, 1), *,
        last: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.kernel, self.stride = tuple(kernel), tuple(stride)
        self.conv3d = nn.Conv3d(channels, out_channels, self.kernel, self.stride, bias=last)  # type: ignore[arg-type]
        self.bn = None if last else BatchNorm(out_channels, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W], sizes divided by the stride and rounded up."""
        x = self.conv3d(_padded(x, self.kernel, self.stride))
        return x if self.bn is None else F.relu(self.bn(x))

    def flops(self, size: Size) -> Flops:
        """Of one clip whose (frames, height, width) are `size`."""
        return convolution(self.conv3d, math.prod(_strided(size, self.stride)))


class Mixed(nn.Module):
    """Four branches side by side."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        one, three = (1, 1, 1), (3, 3, 3)
        self.b0 = Unit(channels, widths[0], one)
        self.b1a, self.b1b = Unit(channels, widths[1], one), Unit(widths[1], widths[2], three)
        self.b2a, self.b2b = Unit(channels, widths[3], one), Unit(widths[3], widths[4], three)
        self.b3b = Unit(channels, widths[5], one)

    def forward(self, x: Tensor) -> Tensor:
        """Channels of all branches, at the same places."""
        pooled = _pooled(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)

    def flops(self, size: Size) -> Flops:
        """Of one clip of (frames, height, width)."""
        units = (self.b0, self.b1a, self.b1b, self.b2a, self.b2b, self.b3b)
        return sum((unit.flops(size) for unit in units), Flops())


class I3D(nn.Module):
    """Video [B, C, T, H, W] in [-1, 1] to logits averaged over time, [B, classes]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

        def wide(channels: int) -> int:
            return max(1, round(channels * config.width))

        time, space = config.stem_kernel
        stride_time, stride_space = config.stem_stride
        self.Conv3d_1a_7x7 = Unit(
            config.channels, wide(64), (time, space, space), (stride_time, stride_space, stride_space)
        )
        self.Conv3d_2b_1x1 = Unit(wide(64), wide(64), (1, 1, 1))
        self.Conv3d_2c_3x3 = Unit(wide(64), wide(192), (3, 3, 3))
        channels = wide(192)
        for name, widths in _MIXED.items():
            scaled = [wide(value) for value in widths]
            self.add_module(name, Mixed(channels, scaled))
            channels = scaled[0] + scaled[2] + scaled[4] + scaled[5]
        self.dim = channels
        self.dropout = nn.Dropout(config.dropout)
        self.logits = Unit(channels, config.classes, (1, 1, 1), last=True)

    def forward(self, video: Video) -> Float[Tensor, "batch classes"]:
        """Logits of each place in time, averaged."""
        return self.logits(self.dropout(self.maps(video))).mean((2, 3, 4))

    def features(self, video: Video) -> Float[Tensor, "batch dim"]:
        """What the classifier reads, averaged over time."""
        return self.maps(video).mean((2, 3, 4))

    def maps(self, video: Video) -> Tensor:
        """Pooled features [B, dim, T', H', W'] before the classifier."""
        x = video
        for name, block in self.named_children():
            if name in ("dropout", "logits"):
                continue
            if name in _POOLED_BEFORE:
                x = _pooled(x, *_POOLED_BEFORE[name])
            x = block(x)
        if self.config.last_pool is None:
            return x.mean((2, 3, 4), keepdim=True)
        time, space = self.config.last_pool
        return F.avg_pool3d(x, (time, space, space), stride=1)

    def flops(self, size: Size) -> Flops:
        """Of the logits of one clip of (frames, height, width)."""
        total = Flops()
        for name, block in self.named_children():
            if name in ("dropout", "logits"):
                continue
            if name in _POOLED_BEFORE:
                size = _strided(size, _POOLED_BEFORE[name][1])
            assert isinstance(block, Unit | Mixed)
            cost = block.flops(size)
            # What the first layer reads is data.
            total += cost.on_data if block is self.Conv3d_1a_7x7 else cost
            size = _strided(size, block.stride) if isinstance(block, Unit) else size
        if self.config.last_pool is None:
            return total + self.logits.flops((1, 1, 1))
        time, space = self.config.last_pool
        return total + self.logits.flops((size[0] - time + 1, size[1] - space + 1, size[2] - space + 1))


def inflated(weight: Tensor, frames: int) -> Tensor:
    """A 2-D kernel [out, in, H, W] repeated over time, over its length: a still video gets the 2-D response."""
    return weight[:, :, None].repeat(1, 1, frames, 1, 1) / frames


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under our names; those converted from TensorFlow name branches and norms otherwise."""
    names = {
        "branch_0": "b0", "branch_1.0": "b1a", "branch_1.1": "b1b", "branch_2.0": "b2a", "branch_2.1": "b2b",
        "branch_3.1": "b3b", "batch3d": "bn", "conv3d_0c_1x1": "logits",
    }  # fmt: skip
    found = {}
    for key, value in state.items():
        for theirs, ours in names.items():
            key = key.replace(f"{theirs}.", f"{ours}.")
        key = re.sub(r"^(conv3d_[12]|mixed_)", lambda match: match.group().capitalize(), key)
        found[key] = value
    return found


def _strided(size: Size, stride: Sequence[int]) -> Size:
    """Sizes over strides, rounded up."""
    frames, height, width = (-(-one // step) for one, step in zip(size, stride, strict=True))
    return frames, height, width


def _padded(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Zeros around x so that sizes are divided by the stride and rounded up, one more behind than ahead if odd."""
    sides: list[int] = []
    for size, width, step in zip(x.shape[2:], kernel, stride, strict=True):
        total = max(0, (-(-size // step) - 1) * step + width - size)
        sides = [total // 2, total - total // 2, *sides]
    return F.pad(x, sides)


def _pooled(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    # Zeros beside values that a ReLU left: they never win.
    return F.max_pool3d(_padded(x, kernel, stride), kernel, stride)
