"""Encoded prompts as a context for transformers."""

import torch
from torch import Tensor, nn

from vidgen_core.interfaces import Text
from vidgen_core.layers.embeddings import sinusoids
from vidgen_core.layers.flops import Flops, product

__all__ = ["Words"]


class Words(nn.Module):
    """Text tokens to entries of a transformer's width, with their places, and the mask beside them."""

    def __init__(self, text_dim: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.embed = nn.Linear(text_dim, dim)

    def forward(self, text: Text) -> tuple[Tensor, Tensor]:
        """Entries [B, L, dim] and mask [B, L]."""
        places = torch.arange(text.tokens.shape[1], device=text.tokens.device)
        return self.embed(text.tokens) + sinusoids(places, self.dim, max_period=100.0), text.mask

    def flops(self, tokens: int) -> Flops:
        """Of so many text tokens."""
        return product(self.embed, tokens).on_data
