"""Factorized space/time transformer. Ma et al. 2024, "Latte" (arXiv:2401.03048), variant 1; adaLN-Zero of
Peebles and Xie 2022, "DiT" (arXiv:2212.09748).

Blocks alternate: attention inside each frame, then attention along time at each place. Both read noise time through
adaptive layer norms; blocks in space also read the text. Convolutions may stand before and behind the transformer.
"""  # noqa: D205

import math
import re

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen_core.interfaces import Frozen, Space, Text
from vidgen_core.layers.attention import CrossAttention, SelfAttention
from vidgen_core.layers.embeddings import TimeEmbedding, sinusoids, space_time_positions
from vidgen_core.layers.patches import patchify, unpatchify
from vidgen_core.layers.stem import ConvHead, ConvStem
from vidgen_core.layers.zeroed import zeroed
from vidgen_core.shapes import Latents, Times

__all__ = ["Config", "FactorizedDiT"]


class Config(Frozen):
    """Sizes of the transformer.

    Args:
        dim: Width of a token.
        depth: Number of pairs of blocks (one in space, one in time).
        heads: Attention heads.
        patch_frames, patch_px: Extent of one token in latent frames and latent pixels.
        mlp_ratio: Width of the perceptrons over `dim`.
        stem_channels: Channels of the convolutions around the transformer; 0 has none, as in the papers.

    """

    dim: int = 160
    depth: int = 3
    heads: int = 4
    patch_frames: int = 1
    patch_px: int = 2
    mlp_ratio: float = 4.0
    stem_channels: int = 0

    @property
    def patch(self) -> tuple[int, int, int]:
        """(frames, height, width) of one token."""
        return (self.patch_frames, self.patch_px, self.patch_px)

    def build(self, space: Space) -> "FactorizedDiT":
        """The network for samples and text of one space."""
        return FactorizedDiT(self, space)


class Block(nn.Module):
    """Attention and perceptron, each with adaLN-Zero modulation; with a context also attention to the text."""

    def __init__(self, config: Config, *, text: bool) -> None:
        super().__init__()
        dim = config.dim
        hidden = int(dim * config.mlp_ratio)
        self.norm_attention = nn.LayerNorm(dim, elementwise_affine=False)
        self.attention = SelfAttention(dim, config.heads)
        self.text_attention = CrossAttention(dim, dim, config.heads) if text else None
        self.norm_text = nn.LayerNorm(dim, elementwise_affine=False)
        self.norm_mlp = nn.LayerNorm(dim, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, dim))
        self.modulation = nn.Sequential(nn.SiLU(), zeroed(nn.Linear(dim, 6 * dim)))

    def forward(
        self,
        x: Float[Tensor, "rows tokens dim"],
        condition: Float[Tensor, "rows tokens_or_1 dim"],
        context: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "rows tokens dim"]:
        """One block over rows of tokens, modulated by the row's (or token's) condition."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition).chunk(6, dim=-1)
        x = x + gate_a * self.attention(self.norm_attention(x) * (1 + scale_a) + shift_a)
        if self.text_attention is not None and context is not None:
            x = x + self.text_attention(self.norm_text(x), *context)
        return x + gate_m * self.mlp(self.norm_mlp(x) * (1 + scale_m) + shift_m)


class FactorizedDiT(nn.Module):
    """Network of a video denoiser: `(x [B,C,T,H,W], t [B] or [B,T], text) -> [B,C,T,H,W]`."""

    positions: Tensor

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config, self.space = config, space
        channels = config.stem_channels or space.channels
        values = channels * math.prod(config.patch)
        grid = (space.frames // config.patch_frames, space.height // config.patch_px, space.width // config.patch_px)
        self.embed = nn.Linear(values, config.dim)
        self.register_buffer("positions", space_time_positions(*grid, config.dim), persistent=False)
        self.time = TimeEmbedding(config.dim)
        self.text_tokens = nn.Linear(space.text_dim, config.dim) if space.text_dim else None
        self.text_pooled = nn.Sequential(
            nn.Linear(config.dim, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim)
        )
        self.space_blocks = nn.ModuleList(Block(config, text=space.text_dim > 0) for _ in range(config.depth))
        self.time_blocks = nn.ModuleList(Block(config, text=False) for _ in range(config.depth))
        self.norm_out = nn.LayerNorm(config.dim, elementwise_affine=False)
        self.modulation_out = nn.Sequential(nn.SiLU(), zeroed(nn.Linear(config.dim, 2 * config.dim)))
        self.stem = ConvStem(space.channels, channels, config.dim) if config.stem_channels else None
        self.head = ConvHead(channels, space.channels, config.dim) if config.stem_channels else None
        self.to_out = nn.Linear(config.dim, values)
        if self.head is None:
            zeroed(self.to_out)

    def forward(self, x: Latents, t: Times, text: Text | None) -> Latents:
        """Prediction for noisy `x` at time `t`, one time a sample or one a latent frame."""
        condition, context = self._read(t if t.ndim == 2 else t[:, None].expand(-1, x.shape[2]), text)
        if self.stem is None or self.head is None:
            return unpatchify(self._transform(patchify(x, self.config.patch), condition, context), self.config.patch)
        features = self.stem(x, condition)
        patches = patchify(features.permute(0, 4, 1, 2, 3), self.config.patch)
        drawn = unpatchify(self._transform(patches, condition, context), self.config.patch)
        return self.head(drawn.permute(0, 2, 3, 4, 1), features, condition, x)

    def hidden_matrices(self) -> frozenset[str]:
        """Names of the weight matrices between hidden layers: neither at an end of the network nor read by a norm."""
        inside = re.compile(r"(_blocks\.\d+|stem\.block|head\.block|head\.join)\.")
        return frozenset(
            name
            for name, weight in self.named_parameters()
            if weight.ndim == 2 and inside.search(name) and ".modulation." not in name
        )

    def _read(self, t: Tensor, text: Text | None) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """The condition of each latent frame [B, T, dim], and the words with their mask."""
        condition = self.time(t)
        if self.text_tokens is None or text is None:
            return condition, None
        words = self.text_tokens(text.tokens)
        # The sum over words, so that each word adds its direction whatever else is said.
        condition = condition + self.text_pooled((words * text.mask[..., None]).sum(1))[:, None]
        places = sinusoids(torch.arange(words.shape[1], device=words.device), self.config.dim, max_period=100.0)
        return condition, (words + places, text.mask)

    def _positions_of(self, patches: Tensor) -> Tensor:
        """The positions of a grid [B, T', H', W', values]; those of the space are at hand."""
        _, frames, height, width, _ = patches.shape
        if (frames, height, width) == self.positions.shape[-4:-1]:
            return self.positions
        return space_time_positions(frames, height, width, self.config.dim).to(patches.device)

    def _transform(self, patches: Tensor, condition: Tensor, context: tuple[Tensor, Tensor] | None) -> Tensor:
        """Patches [B, T', H', W', values] through the transformer, to patches."""
        tokens = self.embed(patches) + self._positions_of(patches)
        batch, frames, height, width, _ = tokens.shape
        condition = condition[:, :: self.config.patch_frames]
        if context is not None:
            words, mask = context
            context = (words.repeat_interleave(frames, dim=0), mask.repeat_interleave(frames, dim=0))
        in_space = condition.flatten(0, 1)[:, None]
        in_time = condition.repeat_interleave(height * width, dim=0)
        for space_block, time_block in zip(self.space_blocks, self.time_blocks, strict=True):
            rows = space_block(tokens.reshape(batch * frames, height * width, -1), in_space, context)
            rows = rows.reshape(batch, frames, height * width, -1).transpose(1, 2).flatten(0, 1)
            rows = time_block(rows, in_time)
            tokens = rows.reshape(batch, height * width, frames, -1).transpose(1, 2)
        tokens = tokens.reshape(batch, frames, height, width, -1)
        shift, scale = self.modulation_out(condition)[:, :, None, None].chunk(2, dim=-1)
        return self.to_out(self.norm_out(tokens) * (1 + scale) + shift)
