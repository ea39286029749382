"""Randomness as a function of (seed, purpose, index): nothing to save, the same on any number of workers.

Every draw belongs to one sample, named by its position in the run's global stream, or to one step. No rank, no
process and no history enters the key, so a resumed run draws what an unbroken one would have drawn.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Chance", "Shapes"]


@dataclass(frozen=True)
class Chance:
    """A source of draws.

    Args:
        seed: The run's seed.
        scope: Purposes that this source is already narrowed to, for example ("held_out",).

    """

    seed: int
    scope: tuple[str | int, ...] = ()

    def within(self, *scope: str | int) -> "Chance":
        """A source whose draws are independent of this one's; `chance.within("held_out")`."""
        return Chance(self.seed, (*self.scope, *scope))

    def generator(self, purpose: str, *key: int) -> torch.Generator:
        """A CPU generator for one purpose and key."""
        text = repr((self.seed, *self.scope, purpose, *key)).encode()
        digest = hashlib.blake2b(text, digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)

    def normal(self, purpose: str, index: Tensor, shape: Sequence[int]) -> Tensor:
        """Standard normal draws, one of `shape` for each sample of `index` [B]: [B, *shape], float32."""
        rows = [torch.randn(tuple(shape), generator=self.generator(purpose, i)) for i in index.tolist()]
        return torch.stack(rows).to(index.device)

    def uniform(self, purpose: str, index: Tensor, shape: Sequence[int] = ()) -> Tensor:
        """Uniform draws in [0, 1), one of `shape` for each sample of `index` [B]: [B, *shape], float32."""
        rows = [torch.rand(tuple(shape), generator=self.generator(purpose, i)) for i in index.tolist()]
        return torch.stack(rows).to(index.device)

    def permutation(self, purpose: str, length: int, *key: int) -> Tensor:
        """A permutation of range(length) for one key, int64 [length]."""
        return torch.randperm(length, generator=self.generator(purpose, *key))


class Shapes(Chance):
    """Draws that have a shape and no values, for tensors that have none either."""

    def normal(self, purpose: str, index: Tensor, shape: Sequence[int]) -> Tensor:
        """See `Chance`."""
        del purpose
        return torch.empty(len(index), *shape, device=index.device)

    def uniform(self, purpose: str, index: Tensor, shape: Sequence[int] = ()) -> Tensor:
        """See `Chance`."""
        return self.normal(purpose, index, shape)

    def within(self, *scope: str | int) -> "Shapes":
        """See `Chance`."""
        return Shapes(self.seed, (*self.scope, *scope))
