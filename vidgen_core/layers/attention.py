"""Multi-head attention with normalized queries and keys, over tokens or from tokens to a context."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from vidgen_core.layers.flops import Flops, product
from vidgen_core.layers.norms import RMSNorm
from vidgen_core.layers.rotary import Turns, turned

__all__ = ["CrossAttention", "KeyValue", "Past", "SelfAttention"]

# Keys and values of some tokens, [B, heads, tokens, dim] each.
KeyValue = tuple[Tensor, Tensor]


class Past:
    """What came before new tokens, so that they attend to it without computing it anew: tokens, and the context."""

    def __init__(self) -> None:
        self._kept: KeyValue | None = None
        self._read: KeyValue | None = None

    def extended(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values [B, heads, tokens, dim] with these at the end; they are kept."""
        if self._kept is not None:
            key, value = torch.cat([self._kept[0], key], dim=2), torch.cat([self._kept[1], value], dim=2)
        self._kept = (key, value)
        return key, value

    def once(self, read: Callable[[], KeyValue]) -> KeyValue:
        """Keys and values of the context, which is the same for all tokens: read by the first of them."""
        if self._read is None:
            self._read = read()
        return self._read


class SelfAttention(nn.Module):
    """Scaled dot-product self-attention; queries and keys are RMS-normalized per head (Dehghani et al. 2023,
    arXiv:2302.05442, section 2), which keeps logits bounded.
    """  # noqa: D205

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.query_norm = RMSNorm(dim // heads)
        self.key_norm = RMSNorm(dim // heads)
        self.to_out = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        bias: Float[Tensor, "batch_or_1 heads tokens tokens"] | None = None,
        *,
        causal: bool = False,
        past: Past | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Every token attends to every token; to none after it where `causal`; and to all of the `past`.

        A bias is added to the scores.
        """
        q, (k, v) = self._project(x)
        if past is not None:
            k, v = past.extended(k, v)
        out = _attend(self.query_norm(q), k, v, bias, causal=causal)
        return self.to_out(out.transpose(1, 2).flatten(2))

    def among(
        self, x: Float[Tensor, "batch tokens dim"], before: KeyValue | None, *,
        turns: Turns | None = None, mask: Bool[Tensor, "batch 1 _ _"] | None = None,
    ) -> tuple[Tensor, KeyValue]:  # fmt: skip
        """Every token attends to others and to all of these where a mask [B, 1, 1 or tokens, all] is True.

        Args:
            x: These tokens.
            before: Keys and values of others, which stand before them.
            turns: Rotary positions of these.
            mask: Who sees whom; None is all.

        Returns:
            What they read [B, tokens, dim], and their own keys and values.

        """
        query, own = self._project(x, turns)
        key, value = own if before is None else (torch.cat(pair, dim=2) for pair in zip(before, own, strict=True))
        out = _attend(turned(self.query_norm(query), turns), key, value, mask)
        return self.to_out(out.transpose(1, 2).flatten(2)), own

    def keys_and_values(self, x: Float[Tensor, "batch tokens dim"]) -> KeyValue:
        """What others read of these tokens, which read nothing themselves."""
        return self._project(x)[1]

    def _project(self, x: Tensor, turns: Turns | None = None) -> tuple[Tensor, KeyValue]:
        query, key, value = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return query, (turned(self.key_norm(key), turns), value)

    def flops(self, batch: int, tokens: int, *, others: int = 0, biased: bool = False) -> Flops:
        """Of `batch` rows of so many tokens, which attend to so many others besides."""
        scores = 4.0 * batch * tokens * (tokens + others) * self.to_out.in_features
        # A bias that learns keeps its scores, which are then not computed again.
        kind = Flops(products=scores) if biased else Flops(attention=scores)
        return product(self.to_qkv, batch * tokens) + product(self.to_out, batch * tokens) + kind


class CrossAttention(nn.Module):
    """Attention from tokens to a context of which some entries may be absent.

    A learned entry is always present, so that an empty context is well defined: it is the unconditional one.
    """

    def __init__(self, dim: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.absent = nn.Parameter(torch.zeros(1, 1, context_dim))
        self.to_query = nn.Linear(dim, dim)
        self.to_key_value = nn.Linear(context_dim, 2 * dim)
        self.query_norm = RMSNorm(dim // heads)
        self.key_norm = RMSNorm(dim // heads)
        self.to_out = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        context: Float[Tensor, "batch entries context_dim"],
        mask: Bool[Tensor, "batch entries"],
        *,
        past: Past | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Tokens read the context's entries where `mask` is True; a `past` keeps what was read for later tokens."""
        mask = torch.cat([mask.new_ones(len(mask), 1), mask], dim=1)
        q = self.to_query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self._read(context) if past is None else past.once(lambda: self._read(context))
        out = _attend(self.query_norm(q), k, v, mask[:, None, None])
        return self.to_out(out.transpose(1, 2).flatten(2))

    def _read(self, context: Tensor) -> KeyValue:
        context = torch.cat([self.absent.expand(len(context), -1, -1), context], dim=1)
        key, value = self.to_key_value(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.key_norm(key), value

    def flops(self, tokens: int, entries: int) -> Flops:
        """Of so many tokens that read one context of so many entries."""
        read = product(self.to_key_value, entries + 1)
        scores = Flops(attention=4.0 * tokens * (entries + 1) * self.to_out.in_features)
        return read + product(self.to_query, tokens) + product(self.to_out, tokens) + scores


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """Softmax attention; on a CPU in float32, whose backward pass is three times faster than that of bfloat16 there."""
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
    with torch.autocast("cpu", enabled=False):
        query, key = query.float(), key.float()
        out = F.scaled_dot_product_attention(query, key, value.float(), attn_mask=mask, is_causal=causal)
        return out.to(value.dtype)
