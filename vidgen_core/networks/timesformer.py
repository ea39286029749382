"""A vision transformer for clips. Bertasius et al. 2021, "Is Space-Time Attention All You Need?" (arXiv:2102.05095).

Divided attention, as the authors train it: patches attend along time, then within their frame; the class token takes
part in space alone. Before training, attention along time adds nothing and times are not told apart.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Frozen
from vidgen_core.layers.flops import Flops, product
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

    def build(self) -> "TimeSformer":
        """The untrained network.

        Raises:
            VidgenError: The side is no multiple of the patch's.

        """
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

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
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
            self.time_attention = Attention(dim, config.heads)
            self.time_to_out = zeroed(nn.Linear(dim, dim))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, config.heads)
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
        self.embed = nn.Conv2d(3, config.dim, config.patch_px, config.patch_px)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.positions = nn.Parameter(torch.randn(1, 1 + places, config.dim) * 0.02)
        self.times = None if config.attention == "space" else nn.Parameter(torch.zeros(1, config.frames, 1, config.dim))
        last = max(1, config.depth - 1)
        self.blocks = nn.ModuleList(Block(config, config.drop_path * place / last) for place in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.classify = nn.Linear(config.dim, config.classes)

    def forward(self, video: Float[Tensor, "batch 3 frames height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of the class token."""
        return self.classify(self.features(video))

    def features(self, video: Float[Tensor, "batch 3 frames height width"]) -> Float[Tensor, "batch dim"]:
        """The class token after all blocks."""
        frames = self.embed(video.transpose(1, 2).flatten(0, 1)).flatten(2).transpose(1, 2)
        patches = (frames + self.positions[:, 1:]).unflatten(0, (len(video), -1))
        if self.times is not None:
            patches = patches + self.times
        token = (self.class_token + self.positions[:, :1]).expand(len(video), -1, -1)
        x = torch.cat([token, patches.flatten(1, 2)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]

    def flops(self) -> Flops:
        """Of the logits of one clip."""
        config, patch = self.config, self.config.patch_px
        places = (config.side_px // patch) ** 2
        # What the first layer reads is data.
        embedding = Flops(ends=2.0 * config.frames * places * 3 * patch**2 * config.dim)
        blocks = sum((block.flops(places) for block in self.blocks if isinstance(block, Block)), Flops())
        return embedding + blocks + product(self.classify, 1)
