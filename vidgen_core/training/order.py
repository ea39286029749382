"""The order in which a run meets its samples: a function of the seed and the step, for any number of workers."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

from vidgen_core.chance import Chance
from vidgen_core.interfaces import Batch
from vidgen_core.training.place import Place
from vidgen_core.training.samples import Samples
from vidgen_core.training.settings import TrainSettings

__all__ = ["Order", "Stream", "ahead"]

T = TypeVar("T")


class Order:
    """Position in the run's endless stream -> number of a sample; each epoch is a permutation of its own.

    Args:
        length: Number of samples.
        chance: Where the permutations come from.

    """

    def __init__(self, length: int, chance: Chance) -> None:
        self._length = length
        # A batch can touch the end of one epoch and the start of the next.
        self._epoch = lru_cache(2)(lambda epoch: chance.permutation("order", length, epoch).tolist())

    def number(self, position: int) -> int:
        """The sample at a position."""
        epoch, place = divmod(position, self._length)
        return self._epoch(epoch)[place]

    def first(self, count: int) -> list[int]:
        """The first `count` samples of the first epoch, all of them where there are fewer."""
        return self._epoch(0)[:count]


class Stream:
    """One worker's share of every step's batch.

    Args:
        samples: What there is to learn from.
        settings: Size of the batch and its pieces.
        place: Which worker this is.
        chance: Where the order comes from.

    """

    def __init__(self, samples: Samples, settings: TrainSettings, place: Place, chance: Chance) -> None:
        self._samples, self._order = samples, Order(len(samples), chance)
        self._batch, self._size = settings.batch, settings.batch // settings.pieces
        own = settings.pieces // place.world
        self._pieces = range(place.rank * own, (place.rank + 1) * own)

    def pieces(self, step: int) -> list[Batch]:
        """The worker's contiguous pieces of the batch of step `step`, counted from 0."""
        starts = [step * self._batch + piece * self._size for piece in self._pieces]
        return [self._piece(range(start, start + self._size)) for start in starts]

    def _piece(self, positions: range) -> Batch:
        return self._samples.batch([self._order.number(position) for position in positions], positions)


def ahead(make: Callable[[int], T], numbers: Iterable[int], depth: int = 2) -> Generator[T, None, None]:
    """make(number) for each number, in order, up to `depth` of them made ahead on one background thread."""
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader") as pool:
        try:
            for number in numbers:
                waiting.append(pool.submit(make, number))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
