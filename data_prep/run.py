"""Runners: the same tasks on Ray or in plain processes, with the same bytes out. The door to Ray of this package.

A task that crashes its process or outlives its deadline costs its own item and nothing else. The deadline is kept by a
watchdog inside the task's process that ends it even when a decoder hangs in native code.
"""

import faulthandler
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

__all__ = ["Failure", "PoolRunner", "RayRunner", "Runner"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_ATTEMPTS = 2


@dataclass(frozen=True)
class Failure:
    """A task whose process died: by a crash, or by the watchdog at its deadline."""

    reason: str
    message: str
    attempts: int


class Runner(Protocol):
    """Runs a function over items; results come as they finish, at most a few items are under way."""

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item], *, deadline_s: float = 3600.0
    ) -> Iterator[tuple[Item, Result | Failure]]:
        """Each item with its result, in the order of finishing."""
        ...


class PoolRunner:
    """Plain processes, forked off one clean process that has imported what the caller has of this package.

    So imports are paid for once and not by every process of every pass, and no thread of the caller's is ever forked.

    Args:
        workers: How many; 0 for one a core.

    """

    def __init__(self, workers: int = 0) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item], *, deadline_s: float = 3600.0
    ) -> Iterator[tuple[Item, Result | Failure]]:
        """See `Runner`. When a process dies, all items under way run again alone, to find out whose fault it was."""
        todo = list(items)
        while todo:
            pool = self._pool(self.workers)
            pending: dict[Future[Result], Item] = {}
            try:
                while todo or pending:
                    while todo and len(pending) < 2 * self.workers:
                        pending[pool.submit(_watched, function, todo[0], deadline_s)] = todo[0]
                        todo.pop(0)
                    done, _ = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        result = future.result()
                        yield pending.pop(future), result
            except BrokenProcessPool:
                for item in pending.values():
                    yield item, self._alone(function, item, deadline_s)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _alone(self, function: Callable[[Item], Result], item: Item, deadline_s: float) -> Result | Failure:
        with self._pool(1) as pool:
            try:
                return pool.submit(_watched, function, item, deadline_s).result()
            except BrokenProcessPool:
                return _died(deadline_s)

    @staticmethod
    def _pool(workers: int) -> ProcessPoolExecutor:
        # As Ray tells its workers: with a process a core, threads of NumPy's only wait for each other, which costs a
        # tenth of the time. Heard when the clean process starts.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        context = multiprocessing.get_context("forkserver")
        # Only heard before the first pool; what is missing later each process imports by itself.
        context.set_forkserver_preload([name for name in sys.modules if name.split(".")[0] == __package__])
        return ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_the_caller)


class RayRunner:
    """Ray tasks on the Ray that the caller has started.

    Args:
        cpus: Cores that a task holds.

    """

    def __init__(self, *, cpus: float = 1.0) -> None:
        self.cpus = cpus

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item], *, deadline_s: float = 3600.0
    ) -> Iterator[tuple[Item, Result | Failure]]:
        """See `Runner`."""
        import ray

        task = ray.remote(num_cpus=self.cpus, max_retries=_ATTEMPTS - 1)(_watched)
        most = max(2, round(2 * ray.cluster_resources().get("CPU", 1) / self.cpus))
        todo = list(reversed(items))
        pending: dict[Any, Item] = {}
        while todo or pending:
            while todo and len(pending) < most:
                item = todo.pop()
                pending[task.remote(function, item, deadline_s)] = item
            done, _ = ray.wait(list(pending), num_returns=1)
            item = pending.pop(done[0])
            try:
                yield item, ray.get(done[0])
            except ray.exceptions.WorkerCrashedError:
                yield item, _died(deadline_s)
            except ray.exceptions.RayTaskError as error:
                raise error.as_instanceof_cause() from None


def _end_with_the_caller() -> None:
    """A caller that is killed takes its processes along, which otherwise wait for work for ever."""
    caller = multiprocessing.parent_process()

    def follow() -> None:
        if caller is not None:
            caller.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _watched(function: Callable[[Item], Result], item: Item, deadline_s: float) -> Result:
    faulthandler.dump_traceback_later(deadline_s, exit=True)
    try:
        return function(item)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _died(deadline_s: float) -> Failure:
    message = f"The process that worked on it died, or took longer than {deadline_s:g} s"
    return Failure("crashed", message, _ATTEMPTS)
