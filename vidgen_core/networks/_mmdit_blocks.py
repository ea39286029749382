"""Blocks of `mmdit`. All tell what they made of their tokens, and the keys and values that others may read of them."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidgen_core.layers.attention import KeyValue, SelfAttention
from vidgen_core.layers.flops import Flops, product
from vidgen_core.layers.norms import RMSNorm
from vidgen_core.layers.rotary import Turns
from vidgen_core.layers.zeroed import zeroed

__all__ = ["Block", "Heard", "ParallelBlock", "spread"]

Tokens = Float[Tensor, "batch tokens dim"]
# A condition of all tokens, or one of every frame.
Conditions = Float[Tensor, "batch frames_or_1 dim"]
Mask = Bool[Tensor, "batch 1 _ _"]
# How many frames have how many tokens each, one run after the other.
Runs = Sequence[tuple[int, int]]


class Block(nn.Module):
    """Attention and a perceptron, with adaLN-Zero modulation (Peebles and Xie 2022, arXiv:2212.09748): one stream."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim, elementwise_affine=False)
        self.attention = SelfAttention(dim, heads)
        self.norm_mlp = nn.LayerNorm(dim, elementwise_affine=False)
        self.mlp = _perceptron(dim, mlp_ratio)
        self.modulation = nn.Sequential(nn.SiLU(), zeroed(nn.Linear(dim, 6 * dim)))

    def forward(
        self, x: Tokens, condition: Conditions, *, runs: Runs = (), before: KeyValue | None = None,
        turns: Turns | None = None, mask: Mask | None = None,
    ) -> tuple[Tokens, KeyValue]:  # fmt: skip
        """Tokens that attend to others before them and among themselves; see `SelfAttention.among`."""
        modulation = spread(self.modulation(condition), runs)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.chunk(6, dim=-1)
        entered = torch.addcmul(shift_a, self.norm_attention(x), 1 + scale_a)
        read, own = self.attention.among(entered, before, turns=turns, mask=mask)
        x = torch.addcmul(x, gate_a, read)
        return torch.addcmul(x, gate_m, self.mlp(torch.addcmul(shift_m, self.norm_mlp(x), 1 + scale_m))), own

    def flops(self, tokens: int, *, conditions: int, others: int, **_: Any) -> Flops:
        """Of so many tokens with so many conditions, which attend to so many others besides."""
        total = self.attention.flops(1, tokens, others=others) + product(self.modulation[1], conditions)
        return total + product(self.mlp[0], tokens) + product(self.mlp[2], tokens)


class ParallelBlock(nn.Module):
    """Attention and a perceptron side by side, which read one norm. Dehghani et al. 2023 (arXiv:2302.05442)."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.attention = SelfAttention(dim, heads)
        self.mlp = _perceptron(dim, mlp_ratio)
        self.modulation = nn.Sequential(nn.SiLU(), zeroed(nn.Linear(dim, 3 * dim)))

    def forward(
        self, x: Tokens, condition: Conditions, *, runs: Runs = (), before: KeyValue | None = None,
        turns: Turns | None = None, mask: Mask | None = None, reads: bool = True,
    ) -> tuple[Tokens, KeyValue]:  # fmt: skip
        """As for `Block`; tokens that read nothing stay as they are."""
        shift, scale, gate = spread(self.modulation(condition), runs).chunk(3, dim=-1)
        entered = torch.addcmul(shift, self.norm(x), 1 + scale)
        if not reads:
            return x, self.attention.keys_and_values(entered)
        read, own = self.attention.among(entered, before, turns=turns, mask=mask)
        return torch.addcmul(x, gate, read + self.mlp(entered)), own

    def flops(self, tokens: int, *, conditions: int, others: int, reads: bool = True) -> Flops:
        """As for `Block`."""
        modulation = product(self.modulation[1], conditions)
        if not reads:
            return modulation + product(self.attention.to_qkv, tokens)
        total = modulation + self.attention.flops(1, tokens, others=others)
        return total + product(self.mlp[0], tokens) + product(self.mlp[2], tokens)


class Heard(nn.Module):
    """The last block of tokens that are only read."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.heads = heads
        self.to_key_value = nn.Linear(dim, 2 * dim)
        self.key_norm = RMSNorm(dim // heads)
        self.modulation = nn.Sequential(nn.SiLU(), zeroed(nn.Linear(dim, 2 * dim)))

    def forward(self, x: Tokens, condition: Conditions, *, mask: Mask | None = None) -> tuple[Tokens, KeyValue]:
        """The tokens as they are, and their keys and values."""
        del mask
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        entered = torch.addcmul(shift, self.norm(x), 1 + scale)
        key, value = self.to_key_value(entered).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return x, (self.key_norm(key), value)

    def flops(self, tokens: int, *, conditions: int, **_: Any) -> Flops:
        """As for `Block`."""
        return product(self.modulation[1], conditions) + product(self.to_key_value, tokens)


def spread(values: Float[Tensor, "batch frames dim"], runs: Runs) -> Float[Tensor, "batch tokens dim"]:
    """One value a frame as one a token; one for all of them stays one."""
    if values.shape[1] == 1:
        return values
    parts = values.split([frames for frames, _ in runs], dim=1)
    spread_out = [
        part[:, :, None].expand(-1, -1, tokens, -1).flatten(1, 2) for part, (_, tokens) in zip(parts, runs, strict=True)
    ]
    return torch.cat(spread_out, dim=1)


def _perceptron(dim: int, ratio: float) -> nn.Sequential:
    hidden = int(dim * ratio)
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, dim))
