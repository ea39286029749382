"""Text without weights: each word is a fixed random vector, chosen by its hash.

The order of words is not encoded. Nothing is learned here; a family's own projection learns what the words mean. Two
runs on two machines agree on every value.
"""

import hashlib
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from vidgen_core import digests
from vidgen_core.interfaces import Frozen, Text, TextEncoder

__all__ = ["Config", "HashedWords"]

_WORD = re.compile(r"[\w']+")


class Config(Frozen):
    """Hashed words.

    Args:
        dim: Width of a word's vector.
        tokens: Words kept of a caption.

    """

    dim: int = 64
    tokens: int = 16

    @classmethod
    def tiny(cls) -> "Config":
        """Sentences of the sample videos."""
        return cls()

    @classmethod
    def base(cls) -> "Config":
        """Captions of one or two sentences."""
        return cls(dim=128, tokens=64)

    def build(self) -> "HashedWords":
        """The encoder."""
        return HashedWords(self)


class HashedWords(TextEncoder):
    """Captions to [B, tokens, dim] with unit-variance entries; words beyond `tokens` are dropped."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.dim, self.tokens = config.dim, config.tokens

    @property
    def digest(self) -> str:
        """Digest of the name and the sizes; there are no weights."""
        return digests.of_value({"encoder": "hashed_words", "version": 1, **self.config.model_dump()})

    def encode(self, captions: Sequence[str]) -> Text:
        """Encode captions; case and punctuation do not matter."""
        tokens = torch.zeros(len(captions), self.tokens, self.dim)
        mask = torch.zeros(len(captions), self.tokens, dtype=torch.bool)
        for row, caption in enumerate(captions):
            for place, word in enumerate(_WORD.findall(caption.lower())[: self.tokens]):
                tokens[row, place] = self._vector(word)
                mask[row, place] = True
        return Text(tokens, mask)

    def _vector(self, word: str) -> Tensor:
        seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=7).digest(), "big")
        return torch.randn(self.dim, generator=torch.Generator().manual_seed(seed))
