"""The order in which a run meets its samples: a function of the seed and the step, for any number of workers."""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import lru_cache
from queue import SimpleQueue
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vidgen_core.chance import Chance
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Batch
from vidgen_core.training.buckets import Bucket, Turn, Turns, bucket_name
from vidgen_core.training.place import Place
from vidgen_core.training.samples import Samples
from vidgen_core.training.settings import TrainSettings

__all__ = ["Order", "Stream", "ahead", "in_pieces"]

T = TypeVar("T")


class Order:
    """Position in the endless stream of some samples -> one of them; each epoch is a permutation of its own.

    Args:
        length: Number of samples.
        chance: Where the permutations come from.

    """

    def __init__(self, length: int, chance: Chance) -> None:
        self._length = length
        # A batch can touch the end of one epoch and the start of the next.
        self._epoch = lru_cache(2)(lambda epoch: chance.permutation("order", length, epoch).numpy())

    def stretch(self, position: int, count: int) -> NDArray[np.int64]:
        """The samples at `count` positions from one on."""
        epoch, place = divmod(position, self._length)
        parts = [self._epoch(epoch)[place : place + count]]
        while (rest := count - sum(map(len, parts))) > 0:
            epoch += 1
            parts.append(self._epoch(epoch)[:rest])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def first(self, count: int) -> list[int]:
        """The first `count` samples of the first epoch, all of them where there are fewer."""
        return self._epoch(0)[:count].tolist()


class Stream:
    """One worker's share of every step's batch.

    A step's batch is of one bucket, so that all workers compute alike. Which bucket it is, and which of its samples, is
    a function of the step: the state of a stream is the number of the step.

    Args:
        samples: What there is to learn from.
        settings: Size of the batch and its pieces, and how buckets take turns.
        place: Which worker this is.
        chance: Where the order comes from.

    Raises:
        VidgenError: The settings name a bucket that there is not, or not one sample of a bucket fits the budget.

    """

    def __init__(self, samples: Samples, settings: TrainSettings, place: Place, chance: Chance) -> None:
        self._samples = samples
        self._buckets = [Bucket.of(shape, numbers, settings) for shape, numbers in samples.buckets.items()]
        _check_named(settings, samples)
        self._turns = Turns(self._buckets, chance)
        self._orders = [Order(len(bucket.numbers), chance) for bucket in self._buckets]
        own = settings.pieces // place.world
        self._cut, self._pieces = settings.pieces, range(place.rank * own, (place.rank + 1) * own)

    def pieces(self, step: int) -> list[Batch]:
        """The worker's contiguous pieces of the batch of step `step`, counted from 0."""
        turn = self._turns.at(step)
        size = self._buckets[turn.bucket].batch // self._cut
        return [self._piece(turn, range(piece * size, (piece + 1) * size)) for piece in self._pieces]

    def _piece(self, turn: Turn, places: range) -> Batch:
        numbers, order = self._buckets[turn.bucket].numbers, self._orders[turn.bucket]
        chosen = numbers[order.stretch(turn.position + places.start, len(places))].tolist()
        return self._samples.batch(chosen, range(turn.stream + places.start, turn.stream + places.stop))


def in_pieces(samples: Samples, numbers: Sequence[int], size: int) -> list[tuple[range, list[int]]]:
    """Samples cut into pieces of at most `size` and of one bucket: their places, which key their draws, and numbers."""
    pieces, start = [], 0
    chosen = set(numbers)
    for bucket in samples.buckets.values():
        own = chosen.intersection(bucket.tolist())
        ordered = [number for number in numbers if number in own]
        for first in range(0, len(ordered), size):
            part = ordered[first : first + size]
            pieces.append((range(start, start + len(part)), part))
            start += len(part)
    return pieces


def _check_named(settings: TrainSettings, samples: Samples) -> None:
    there = [bucket_name(shape) for shape in samples.buckets]
    for name in settings.bucket_rates:
        if name not in there:
            raise VidgenError(
                f"There is no bucket {name!r}", allowed=", ".join(there), move="Correct training.bucket_rates"
            )


def ahead(
    make: Callable[[int], T], numbers: Iterable[int], depth: int = 2, threads: int = 1
) -> Generator[T, None, None]:
    """make(number) for each number, in order, made on background threads.

    A thread makes `depth` items in a row while the `depth` before them are taken: waking the other side costs up to a
    fifth of the time that a batch of latents takes to read, and a pool's futures, an item each, cost more.
    """
    makers = [_Maker(make) for _ in range(threads)]
    asking, taking, waiting, rest = itertools.cycle(makers), itertools.cycle(makers), 0, iter(numbers)
    try:
        while asked := list(itertools.islice(rest, depth)):
            next(asking).ask(asked)
            waiting += 1
            if waiting > threads:
                waiting -= 1
                yield from next(taking).take()
        for _ in range(waiting):
            yield from next(taking).take()
    finally:
        for maker in makers:
            maker.ask([])
        for maker in makers:
            maker.join()


class _Maker(threading.Thread, Generic[T]):
    """A thread that makes items of the numbers it is asked for, in their order."""

    def __init__(self, make: Callable[[int], T]) -> None:
        # A daemon, so that an interpreter can end around a loader that nobody closed.
        super().__init__(name="loader", daemon=True)
        self._make, self._over = make, False
        self._asked: SimpleQueue[list[int]] = SimpleQueue()
        self._made: SimpleQueue[tuple[deque[T], BaseException | None]] = SimpleQueue()
        self.start()

    def ask(self, numbers: list[int]) -> None:
        """Have items made; no numbers end the thread after the item that it is at."""
        self._over = not numbers
        self._asked.put(numbers)

    def take(self) -> Iterator[T]:
        """What was made of the numbers that were asked for first; at its end the error that making came to."""
        items, error = self._made.get()
        while items:
            yield items.popleft()
        if error is not None:
            raise error

    def run(self) -> None:
        """Make items until there shall be no more."""
        while numbers := self._asked.get():
            items: deque[T] = deque()
            error: BaseException | None = None
            try:
                for number in numbers:
                    if self._over:
                        return
                    items.append(self._make(number))
            except BaseException as mistake:  # noqa: BLE001 - it is raised where the item is wanted
                error = mistake
            self._made.put((items, error))
