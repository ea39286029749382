"""A plain pre-norm transformer block. Vaswani et al. 2017 (arXiv:1706.03762); Xiong et al. 2020 (arXiv:2002.04745)."""

from jaxtyping import Float
from torch import Tensor, nn

from vidgen_core.layers.attention import CrossAttention, Past, SelfAttention
from vidgen_core.layers.flops import Flops, product

__all__ = ["TransformerBlock"]


class TransformerBlock(nn.Module):
    """Attention among tokens, attention to a context if there is one, and a perceptron.

    Args:
        dim: Width of a token.
        heads: Attention heads.
        context: Whether tokens read a context of the same width.
        causal: Whether a token attends to none after it.
        mlp_ratio: Width of the perceptron over `dim`.

    """

    def __init__(self, dim: int, heads: int, *, context: bool, causal: bool = False, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.causal = causal
        hidden = int(dim * mlp_ratio)
        self.norm_attention = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads)
        self.norm_context = nn.LayerNorm(dim) if context else None
        self.context_attention = CrossAttention(dim, dim, heads) if context else None
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, dim))

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        context: tuple[Tensor, Tensor] | None = None,
        *,
        past: Past | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """One block; `context` is entries [B, L, dim] and their mask [B, L], `past` what earlier tokens left."""
        x = x + self.attention(self.norm_attention(x), causal=self.causal and past is None, past=past)
        if self.context_attention is not None and self.norm_context is not None and context is not None:
            x = x + self.context_attention(self.norm_context(x), *context, past=past)
        return x + self.mlp(self.norm_mlp(x))

    def flops(self, tokens: int, entries: int) -> Flops:
        """Of one row of tokens that reads a context of so many entries; what causality leaves out is counted."""
        total = self.attention.flops(1, tokens) + product(self.mlp[0], tokens) + product(self.mlp[2], tokens)
        if self.context_attention is not None and entries:
            total += self.context_attention.flops(tokens, entries)
        return total
