"""Buckets: samples of one shape, and how they take turns.

Each step is of one bucket. An epoch is a shuffled list of turns in which every bucket has as many as bring each of its
samples once (or `rate` times), with what does not fill a batch carried over to the next epoch. Everything is a function
of the seed and the step, so there is nothing to save.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidgen_core.chance import Chance
from vidgen_core.errors import VidgenError
from vidgen_core.training.settings import TrainSettings

__all__ = ["Bucket", "Turn", "Turns", "bucket_name"]


def bucket_name(shape: Sequence[int]) -> str:
    """How settings name the bucket of a shape (channels, frames, height, width): "5x32x32"."""
    return "x".join(map(str, shape[1:]))


class Bucket(NamedTuple):
    """Samples of one shape.

    Args:
        numbers: Which samples.
        batch: How many of them make a step.
        rate: How often each of them comes in an epoch.

    """

    numbers: NDArray[np.int64]
    batch: int
    rate: Fraction

    @classmethod
    def of(cls, shape: Sequence[int], numbers: NDArray[np.int64], settings: TrainSettings) -> "Bucket":
        """The bucket of a shape (channels, frames, height, width) with its batch under the token budget.

        Raises:
            VidgenError: The budget does not hold one sample a piece.

        """
        name, tokens = bucket_name(shape), int(np.prod(shape[1:]))
        rate = Fraction(str(settings.bucket_rates.get(name, 1)))
        batch = settings.batch
        if settings.token_budget and rate:
            most = settings.token_budget // tokens // settings.pieces * settings.pieces
            if most == 0:
                raise VidgenError(
                    f"Not one sample of {name} in each of {settings.pieces} pieces fits the token budget",
                    got=settings.token_budget,
                    allowed=f"at least {tokens * settings.pieces}",
                    move=f"Raise training.token_budget, or leave the bucket out: training.bucket_rates.{name}=0",
                )
            batch = min(batch, most)
        return cls(numbers, batch, rate)

    def turns(self, epochs: int) -> int:
        """Steps of this bucket in the first `epochs` epochs."""
        return -(-epochs * len(self.numbers) * self.rate.numerator // (self.rate.denominator * self.batch))


class Turn(NamedTuple):
    """One step: whose it is, where that bucket's own stream is, and where the run's stream is."""

    bucket: int
    position: int
    stream: int


class Turns:
    """Step -> turn.

    Args:
        buckets: Who takes turns.
        chance: Where their order comes from.

    Raises:
        VidgenError: No bucket has a turn.

    """

    def __init__(self, buckets: Sequence[Bucket], chance: Chance) -> None:
        if not any(bucket.rate for bucket in buckets):
            raise VidgenError("No bucket has a turn", move="Give one a rate above 0 in training.bucket_rates")
        self._buckets, self._chance = buckets, chance
        # The first step of the epoch that was last asked for, the first beyond it, and its number.
        self._latest = (0, 0, 0)
        self._epoch: Callable[[int], tuple[NDArray[np.int64], ...]] = lru_cache(2)(self._lay_out)

    def at(self, step: int) -> Turn:
        """The turn of a step, counted from 0."""
        first, beyond, epoch = self._latest
        if not first <= step < beyond:
            epoch = self._epoch_of(step)
            first, beyond = self._before(epoch), self._before(epoch + 1)
            self._latest = first, beyond, epoch
        buckets, positions, index = self._epoch(epoch)
        place = step - first
        return Turn(int(buckets[place]), int(positions[place]), int(index[place]))

    def _before(self, epoch: int) -> int:
        """Steps before an epoch."""
        return sum(bucket.turns(epoch) for bucket in self._buckets)

    def _epoch_of(self, step: int) -> int:
        """The epoch whose steps include this one; small data have epochs without a step."""
        high = 1
        while self._before(high) <= step:
            high *= 2
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._before(middle) > step else (middle, high)
        return low

    def _lay_out(self, epoch: int) -> tuple[NDArray[np.int64], ...]:
        """For each step of an epoch: its bucket, the position in the bucket's stream, that in the run's."""
        firsts = [bucket.turns(epoch) for bucket in self._buckets]
        counts = [bucket.turns(epoch + 1) - first for bucket, first in zip(self._buckets, firsts, strict=True)]
        batches = np.array([bucket.batch for bucket in self._buckets])
        turns = np.repeat(np.arange(len(counts)), counts)
        if len(counts) > 1:
            turns = turns[self._chance.permutation("buckets", len(turns), epoch).numpy()]
        positions = np.zeros(len(turns), np.int64)
        for number, (first, count) in enumerate(zip(firsts, counts, strict=True)):
            positions[turns == number] = (first + np.arange(count)) * batches[number]
        sizes = batches[turns]
        index = int(np.dot(firsts, batches)) + np.cumsum(sizes) - sizes
        return turns, positions, index
