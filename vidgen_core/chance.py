"""Randomness as a function of (seed, purpose, index): nothing to save, the same on any number of workers.

Every draw belongs to one sample, named by its position in the run's global stream, or to one step. No rank, no
process and no history enters the key, so a resumed run draws what an unbroken one would have drawn.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

__all__ = ["Chance", "Shapes"]


@dataclass(frozen=True)
class Chance:
    """A source of draws.

    Args:
        seed: The run's seed.
        scope: Purposes that this source is already narrowed to, for example ("held_out",).
        device: Where the draws for samples are wanted; None is where their numbers are. Numbers that stay on the CPU
            are read without waiting for an accelerator.

    """

    seed: int
    scope: tuple[str | int, ...] = ()
    device: torch.device | str | None = None

    def within(self, *scope: str | int) -> Self:
        """A source whose draws are independent of this one's; `chance.within("held_out")`."""
        return replace(self, scope=(*self.scope, *scope))

    def on(self, device: torch.device | str) -> Self:
        """The same source, whose draws are wanted on a device."""
        return replace(self, device=device)

    def generator(self, purpose: str, *key: int) -> torch.Generator:
        """A CPU generator for one purpose and key."""
        text = repr((self.seed, *self.scope, purpose, *key)).encode()
        digest = hashlib.blake2b(text, digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)

    def normal(self, purpose: str, index: Tensor, shape: Sequence[int]) -> Tensor:
        """Standard normal draws, one of `shape` for each sample of `index` [B]: [B, *shape], float32."""
        rows = [torch.randn(tuple(shape), generator=self.generator(purpose, i)) for i in index.tolist()]
        return self.placed(rows, index)

    def uniform(self, purpose: str, index: Tensor, shape: Sequence[int] = ()) -> Tensor:
        """Uniform draws in [0, 1), one of `shape` for each sample of `index` [B]: [B, *shape], float32."""
        rows = [torch.rand(tuple(shape), generator=self.generator(purpose, i)) for i in index.tolist()]
        return self.placed(rows, index)

    def placed(self, rows: Sequence[Tensor], index: Tensor) -> Tensor:
        """What was drawn for each sample of `index` [B] where it is wanted, [B, ...]; nobody waits for the copy."""
        drawn = torch.stack(list(rows))
        device = torch.device(index.device if self.device is None else self.device)
        # From memory that the system may page out a copy is only begun once the device has come so far.
        return (drawn.pin_memory() if device.type == "cuda" else drawn).to(device, non_blocking=True)

    def permutation(self, purpose: str, length: int, *key: int) -> Tensor:
        """A permutation of range(length) for one key, int64 [length]."""
        return torch.randperm(length, generator=self.generator(purpose, *key))


class Shapes(Chance):
    """Draws that have a shape and no values, for tensors that have none either."""

    def normal(self, purpose: str, index: Tensor, shape: Sequence[int]) -> Tensor:
        """See `Chance`."""
        del purpose
        return torch.empty(len(index), *shape, device=self.device or index.device)

    def uniform(self, purpose: str, index: Tensor, shape: Sequence[int] = ()) -> Tensor:
        """See `Chance`."""
        return self.normal(purpose, index, shape)
