"""A vision transformer for clips. Bertasius et al. 2021, "Is Space-Time Attention All You Need?" (arXiv:2102.05095).

Divided attention, as the authors train it: patches attend along time, then within their frame; the class token takes
part in space alone. Before training, attention along time adds nothing and times are not told apart.

Small networks that learn from few samples differ, which is ours: convolutions read a frame before it is cut into
patches (`stem`), and tokens say in sines where and when they are (`places`).
"""

import math
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Frozen
from vidgen_core.layers.across import BatchNorm
from vidgen_core.layers.flops import Flops, convolution, product
from vidgen_core.layers.zeroed import zeroed

__all__ = ["Config", "TimeSformer"]


class Config(Frozen):
    """Sizes of the network.

    Args:
        classes: Number of classes.
        attention: "divided" along time, then space; "joint" over both; "space" within frames alone.
        frames, side_px: Size of a clip.
        patch_px: Side of a token.
        dim, depth, heads: Of the transformer.
        drop_path: Share of samples for which the last block is left out in training; it grows along the depth.
        places: What positions and times are before training: "noise" and nothing, or "sines" of half the values' size.
        stem: Widths of 3 x 3 convolutions before the patches, each of which halves height and width. Without any, a
            patch is read by one linear layer, as in the paper; with them it is what is left of it after they have
            been through the whole frame. Xiao et al. 2021 (arXiv:2106.14881).

    """

    classes: int = 400
    attention: Literal["divided", "joint", "space"] = "divided"
    frames: int = 8
    side_px: int = 224
    patch_px: int = 16
    dim: int = 768
    depth: int = 12
    heads: int = 12
    drop_path: float = 0.1
    places: Literal["noise", "sines"] = "noise"
    stem: tuple[int, ...] = ()

    def build(self) -> "TimeSformer":
        """The untrained network.

        Raises:
            VidgenError: The side is no multiple of the patch's, or the patch's not one of what the stem leaves.

        """
        shrunk = 2 ** len(self.stem)
        if self.patch_px % shrunk:
            raise VidgenError(
                f"A stem of {len(self.stem)} layers makes pixels of {shrunk} x {shrunk} px",
                got=f"patches of {self.patch_px} px",
                allowed=f"a multiple of {shrunk}",
                move="Name fewer widths in stem, or larger patches",
            )
        if self.side_px % self.patch_px:
            raise VidgenError(
                "A frame cannot be cut into patches",
                got=f"{self.side_px} px",
                allowed=f"a multiple of {self.patch_px}",
                move=f"Set side_px to {self.side_px // self.patch_px * self.patch_px}",
            )
        return TimeSformer(self)


class Attention(nn.Module):
    """Multi-head self-attention with biases."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.heads
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.to_out = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "rows tokens dim"]) -> Float[Tensor, "rows tokens dim"]:
        """Every token of a row attends to every token of it."""
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def flops(self, rows: int, tokens: int) -> Flops:
        """Of so many rows of tokens."""
        scores = Flops(attention=4.0 * rows * tokens**2 * self.to_out.in_features)
        return product(self.to_qkv, rows * tokens) + product(self.to_out, rows * tokens) + scores


class Block(nn.Module):
    """Attention by the scheme, and a perceptron, over [B, 1 + T * N, dim]: a class token, then patches by frames."""

    def __init__(self, config: Config, drop_path: float) -> None:
        super().__init__()
        dim = config.dim
        self.scheme, self.frames, self.drop_path = config.attention, config.frames, drop_path
        if config.attention == "divided":
            self.time_norm = nn.LayerNorm(dim, eps=1e-6)
            self.time_attention = Attention(config)
            self.time_to_out = zeroed(nn.Linear(dim, dim))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(config)
        self.mlp_norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """One block."""
        if self.scheme == "joint":
            x = x + self._kept(self.attention(self.norm(x)))
        elif self.scheme == "divided":
            x = self._in_space(self._in_time(x))
        else:
            x = self._in_space(x)
        return x + self._kept(self.mlp(self.mlp_norm(x)))

    def flops(self, places: int) -> Flops:
        """Of one clip whose frames have so many patches."""
        tokens = 1 + self.frames * places
        total = product(self.mlp[0], tokens) + product(self.mlp[2], tokens)
        if self.scheme == "joint":
            return total + self.attention.flops(1, tokens)
        if self.scheme == "divided":
            patches = self.frames * places
            total += self.time_attention.flops(places, self.frames) + product(self.time_to_out, patches)
        return total + self.attention.flops(self.frames, 1 + places)

    def _in_time(self, x: Tensor) -> Tensor:
        """Each place along time; the class token does not take part."""
        token, patches = x[:, :1], x[:, 1:].unflatten(1, (self.frames, -1))
        rows = patches.transpose(1, 2).flatten(0, 1)
        seen = self.time_attention(self.time_norm(rows)).unflatten(0, (len(x), -1)).transpose(1, 2)
        patches = patches + self.time_to_out(self._kept(seen))
        return torch.cat([token, patches.flatten(1, 2)], dim=1)

    def _in_space(self, x: Tensor) -> Tensor:
        """Each frame with a copy of the class token; what its copies became is averaged."""
        token, patches = x[:, :1], x[:, 1:].unflatten(1, (self.frames, -1))
        rows = torch.cat([token[:, None].expand(-1, self.frames, -1, -1), patches], dim=2).flatten(0, 1)
        seen = self._kept(self.attention(self.norm(rows)).unflatten(0, (len(x), self.frames)))
        token, patches = token + seen[:, :, :1].mean(1), patches + seen[:, :, 1:]
        return torch.cat([token, patches.flatten(1, 2)], dim=1)

    def _kept(self, change: Tensor) -> Tensor:
        """Stochastic depth: nothing for some samples, more for the others. Huang et al. 2016 (arXiv:1603.09382)."""
        if not self.training or self.drop_path == 0:
            return change
        keep = torch.rand(len(change), *[1] * (change.ndim - 1), device=change.device) >= self.drop_path
        return change * keep / (1 - self.drop_path)


class TimeSformer(nn.Module):
    """Video [B, 3, T, H, W] in [-1, 1] to logits [B, classes]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.dim = config, config.dim
        places = (config.side_px // config.patch_px) ** 2
        left_px = config.patch_px // 2 ** len(config.stem)
        self.stem = nn.Sequential(*(_halving(*pair) for pair in pairwise((3, *config.stem))))
        self.embed = nn.Conv2d((3, *config.stem)[-1], config.dim, left_px, left_px)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.positions = nn.Parameter(torch.randn(1, 1 + places, config.dim) * 0.02)
        self.times = None if config.attention == "space" else nn.Parameter(torch.zeros(1, config.frames, 1, config.dim))
        if config.places == "sines":
            self._place()
        last = max(1, config.depth - 1)
        self.blocks = nn.ModuleList(Block(config, config.drop_path * place / last) for place in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.classify = nn.Linear(config.dim, config.classes)

    def forward(self, video: Float[Tensor, "batch 3 frames height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of the class token."""
        return self.classify(self.features(video))

    def features(self, video: Float[Tensor, "batch 3 frames height width"]) -> Float[Tensor, "batch dim"]:
        """The class token after all blocks."""
        frames = self.embed(self.stem(video.transpose(1, 2).flatten(0, 1))).flatten(2).transpose(1, 2)
        patches = (frames + self.positions[:, 1:]).unflatten(0, (len(video), -1))
        if self.times is not None:
            patches = patches + self.times
        token = (self.class_token + self.positions[:, :1]).expand(len(video), -1, -1)
        x = torch.cat([token, patches.flatten(1, 2)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]

    @torch.no_grad()
    def _place(self) -> None:
        """Rows and columns in half of the values each; times in all of them, turned so as to be told from rows."""
        config = self.config
        side = config.side_px // config.patch_px
        sines = _sines(side, config.dim // 2)
        rows, columns = (one.expand(side, side, -1) for one in (sines[:, None], sines[None]))
        self.positions[0, 1:] = torch.cat([rows, columns], dim=-1).flatten(0, 1)
        if self.times is not None:
            self.times[0, :, 0] = _sines(config.frames, config.dim) @ nn.init.orthogonal_(
                torch.empty(config.dim, config.dim)
            )

    def flops(self) -> Flops:
        """Of the logits of one clip."""
        config = self.config
        places = (config.side_px // config.patch_px) ** 2
        reading, side = [*self.stem.modules(), self.embed], config.side_px
        convolutions = [layer for layer in reading if isinstance(layer, nn.Conv2d)]
        total = product(self.classify, 1)
        for place, layer in enumerate(convolutions):
            side //= layer.stride[0]
            cost = convolution(layer, config.frames * side**2)
            # What the first layer reads is data.
            total += cost if place else cost.on_data
        return sum((block.flops(places) for block in self.blocks if isinstance(block, Block)), total)


def _halving(channels: int, width: int) -> nn.Sequential:
    """One layer of the stem."""
    return nn.Sequential(nn.Conv2d(channels, width, 3, 2, padding=1, bias=False), BatchNorm(width), nn.ReLU())


def _sines(places: int, dim: int) -> Float[Tensor, "places dim"]:
    """Sines and cosines of places in [-1, 1] at frequencies from an eighth of a turn, doubled four times."""
    angles = torch.linspace(-1, 1, places)[:, None] * (math.pi / 4 * 2.0 ** torch.linspace(0, 4, dim // 2))
    return 0.5 * torch.cat([angles.sin(), angles.cos()], dim=1)
