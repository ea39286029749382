"""Factorized space/time transformer. Ma et al. 2024, "Latte" (arXiv:2401.03048), variant 1; adaLN-Zero of
Peebles and Xie 2022, "DiT" (arXiv:2212.09748).

Blocks alternate: attention inside each frame, then attention along time at each place. Both read noise time through
adaptive layer norms; blocks in space also read the text. Convolutions may stand before and behind the transformer.
"""  # noqa: D205

import math
import re
from collections.abc import Mapping
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen_core.interfaces import Space, Text
from vidgen_core.layers.attention import CrossAttention, SelfAttention
from vidgen_core.layers.embeddings import TimeEmbedding, sinusoids, space_time_positions
from vidgen_core.layers.flops import Flops, product
from vidgen_core.layers.patches import Patched, patchify, unpatchify
from vidgen_core.layers.scalars import ScalarEmbedding
from vidgen_core.layers.stem import ConvHead, ConvStem
from vidgen_core.layers.zeroed import zeroed
from vidgen_core.shapes import Latents, Times

__all__ = ["Config", "FactorizedDiT"]


class Config(Patched):
    """Sizes of the transformer.

    Args:
        kind: Names this network among those of a family.
        dim: Width of a token.
        depth: Number of pairs of blocks (one in space, one in time).
        heads: Attention heads.
        patch_frames, patch_px: See `Patched`.
        mlp_ratio: Width of the perceptrons over `dim`.
        stem_channels: Channels of the convolutions around the transformer; 0 has none, as in the papers.

    """

    kind: Literal["factorized_dit"] = "factorized_dit"
    dim: int = 160
    depth: int = 3
    heads: int = 4
    mlp_ratio: float = 4.0
    stem_channels: int = 0

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
        x: Float[Tensor, "batch rows tokens dim"],
        condition: Float[Tensor, "batch rows_or_1 tokens_or_1 dim"],
        context: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "batch rows tokens dim"]:
        """One block over rows of tokens, which attend inside their row; the condition is a row's or a place's.

        The condition is spread over tokens after its product with a matrix six times as wide as the block, not before.
        """
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition).chunk(6, dim=-1)
        rows = torch.addcmul(shift_a, self.norm_attention(x), 1 + scale_a)
        x = torch.addcmul(x, gate_a, self.attention(rows.flatten(0, 1)).view_as(x))
        if self.text_attention is not None and context is not None:
            # All rows of a video read the same words, whose keys and values are so computed once.
            x = x + self.text_attention(self.norm_text(x).flatten(1, 2), *context).view_as(x)
        return torch.addcmul(x, gate_m, self.mlp(torch.addcmul(shift_m, self.norm_mlp(x), 1 + scale_m)))

    def flops(self, rows: int, tokens: int, *, conditions: int, entries: int) -> Flops:
        """Of one video: rows of tokens, its different conditions, entries of its text."""
        places = rows * tokens
        total = self.attention.flops(rows, tokens) + product(self.modulation[1], conditions)
        if self.text_attention is not None and entries:
            total += self.text_attention.flops(places, entries)
        return total + product(self.mlp[0], places) + product(self.mlp[2], places)


class FactorizedDiT(nn.Module):
    """Network of a video denoiser: `(x [B,C,T,H,W], t [B] or [B,T], text) -> [B,C,T,H,W]`."""

    positions: Tensor

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config, self.space = config, space
        channels = config.stem_channels or space.channels
        values = channels * math.prod(config.patch)
        grid = config.grid(space)
        self.embed = nn.Linear(values, config.dim)
        self.register_buffer("positions", space_time_positions(*grid, config.dim), persistent=False)
        self.time = TimeEmbedding(config.dim)
        self.text_tokens = nn.Linear(space.text_dim, config.dim) if space.text_dim else None
        self.text_pooled = (
            nn.Sequential(nn.Linear(config.dim, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim))
            if space.text_dim
            else None
        )
        self.scalars = ScalarEmbedding(space.scalars, config.dim) if space.scalars else None
        self.space_blocks = nn.ModuleList(Block(config, text=space.text_dim > 0) for _ in range(config.depth))
        self.time_blocks = nn.ModuleList(Block(config, text=False) for _ in range(config.depth))
        self.norm_out = nn.LayerNorm(config.dim, elementwise_affine=False)
        self.modulation_out = nn.Sequential(nn.SiLU(), zeroed(nn.Linear(config.dim, 2 * config.dim)))
        self.stem = ConvStem(space.channels, channels, config.dim) if config.stem_channels else None
        self.head = ConvHead(channels, space.channels, config.dim) if config.stem_channels else None
        self.to_out = nn.Linear(config.dim, values)
        if self.head is None:
            zeroed(self.to_out)

    def forward(self, x: Latents, t: Times, text: Text | None, scalars: Mapping[str, Tensor] | None = None) -> Latents:
        """Prediction for noisy `x` at time `t`, one time a sample or one a latent frame; scalars are as in `Batch`."""
        condition, context = self._read(t if t.ndim == 2 else t[:, None].expand(-1, x.shape[2]), text)
        if self.scalars is not None:
            condition = condition + self.scalars(scalars or {}, len(x))[:, None]
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

    def flops(self, shape: tuple[int, int, int, int], text_tokens: int) -> Flops:
        """Of one sample (channels, frames, height, width) with so many text tokens."""
        _, frames, height, width = shape
        rows, tokens = frames // self.config.patch_frames, height * width // self.config.patch_px**2
        total = self.time.flops(frames) + product(self.modulation_out[1], rows) + product(self.to_out, rows * tokens)
        if self.scalars is not None:
            total += self.scalars.flops()
        embed = product(self.embed, rows * tokens)
        if self.stem is None or self.head is None:
            total += embed.on_data
        else:
            total += embed + self.stem.flops(shape[1:]) + self.head.flops(shape[1:])
        if self.text_tokens is not None and self.text_pooled is not None and text_tokens:
            total += product(self.text_tokens, text_tokens).on_data
            total += product(self.text_pooled[0], 1) + product(self.text_pooled[2], 1)
        for space_block, time_block in zip(self.space_blocks, self.time_blocks, strict=True):
            total += cast("Block", space_block).flops(rows, tokens, conditions=rows, entries=text_tokens)
            total += cast("Block", time_block).flops(tokens, rows, conditions=rows, entries=0)
        return total

    def tokens(self, shape: tuple[int, int, int, int]) -> int:
        """Tokens of one sample (channels, frames, height, width)."""
        return self.config.places(shape)

    def _read(self, t: Tensor, text: Text | None) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """The condition of each latent frame [B, T, dim], and the words with their mask."""
        condition = self.time(t)
        if self.text_tokens is None or self.text_pooled is None or text is None:
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
        height, width = tokens.shape[2:4]
        condition = condition[:, :: self.config.patch_frames]
        rows = tokens.flatten(2, 3)
        for space_block, time_block in zip(self.space_blocks, self.time_blocks, strict=True):
            rows = space_block(rows, condition[:, :, None], context)
            rows = time_block(rows.transpose(1, 2).contiguous(), condition[:, None]).transpose(1, 2).contiguous()
        tokens = rows.unflatten(2, (height, width))
        shift, scale = self.modulation_out(condition)[:, :, None, None].chunk(2, dim=-1)
        return self.to_out(self.norm_out(tokens) * (1 + scale) + shift)
