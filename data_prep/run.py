"""Runners: the same tasks on Ray or in plain processes, with the same bytes out. The door to Ray of this package.

A task that crashes its process or outlives its deadline costs its own item and nothing else. The deadline is kept by a
watchdog inside the task's process that ends it even when a decoder hangs in native code.
"""

import faulthandler
import logging
import math
import multiprocessing
import os
import resource
import socket
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, TypeVar

from data_prep.needs import GIB, Needs, needs_of
from vidgen_core.errors import VidgenError

__all__ = ["UNFETCHED", "Failure", "PoolRunner", "RayRunner", "Runner"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_ATTEMPTS = 2
GROWN_BYTES = 2**30
"""A process of the pool that is so much larger than after its first task is replaced."""
TASKS_A_PROCESS = 100
"""A process of Ray's is replaced after so many tasks."""
# The reason of a failure whose source could not be brought to the task.
UNFETCHED = "unfetched"
_LOOK_AGAIN_S = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A task whose process died, by a crash or by the watchdog at its deadline, or whose source did not come."""

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
        """See `Runner`. When a process dies, all items under way run again alone, to find out whose fault it was.

        When one has grown, for a decoder leaks, new processes take the items that are left, and the old ones end with
        what they are at.
        """
        todo, pools = deque(items), [self._pool(self.workers)]
        pending: dict[Future[tuple[Result, int]], tuple[Item, ProcessPoolExecutor]] = {}
        try:
            while todo or pending:
                for item in [todo.popleft() for _ in range(min(len(todo), 2 * self.workers - len(pending)))]:
                    pending[self._submit(pools, function, item, deadline_s)] = item, pools[-1]
                for future in wait(pending, return_when=FIRST_COMPLETED).done & pending.keys():
                    try:
                        result, grown_bytes = future.result()
                    except BrokenProcessPool:
                        for item in _those_of(pending[future][1], pending):
                            yield item, self._alone(function, item, deadline_s)
                        break
                    item, pool = pending.pop(future)
                    if grown_bytes > GROWN_BYTES and pool is pools[-1]:
                        pool.shutdown(wait=False)
                        pools.append(self._pool(self.workers))
                    yield item, result
        finally:
            for pool in pools:
                pool.shutdown(wait=True, cancel_futures=True)

    def _submit(
        self, pools: list[ProcessPoolExecutor], function: Callable[[Item], Result], item: Item, deadline_s: float
    ) -> Future[tuple[Result, int]]:
        """Give an item to the last pool, or to a new one after it where a process of that one has died."""
        try:
            return pools[-1].submit(_measured, function, item, deadline_s)
        except BrokenProcessPool:
            pools.append(self._pool(self.workers))
            return pools[-1].submit(_measured, function, item, deadline_s)

    def _alone(self, function: Callable[[Item], Result], item: Item, deadline_s: float) -> Result | Failure:
        with self._pool(1) as pool:
            try:
                return pool.submit(_measured, function, item, deadline_s).result()[0]
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


def _those_of(
    pool: ProcessPoolExecutor, pending: dict[Future[tuple[Result, int]], tuple[Item, ProcessPoolExecutor]]
) -> list[Item]:
    """Take the items out that were given to a pool."""
    futures = [future for future, (_, own) in pending.items() if own is pool]
    return [pending.pop(future)[0] for future in futures]


class RayRunner:
    """Ray tasks on the Ray that the caller is connected to, each placed where what its function needs is free.

    A few tasks more than fit are under way, so memory here does not grow with the number of items, and nodes that join
    are used as soon as they are seen. A task that dies with its process, its node, or for want of memory is done again
    elsewhere: a bounded number of times, after which it is a `Failure`.

    Args:
        cores: Most cores to hold at a time; 0 for all that Ray has.
        witness: A file that every node must see, as sign that it has the folder that results are written to.
        patience_s: How long no node may be able to take a task; one may be on its way.

    """

    def __init__(self, *, cores: int = 0, witness: Path | None = None, patience_s: float = 0.0) -> None:
        self.cores, self.witness, self.patience_s = cores, witness, patience_s

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item], *, deadline_s: float = 3600.0
    ) -> Iterator[tuple[Item, Result | Failure]]:
        """See `Runner`.

        Raises:
            VidgenError: No node can take such a task, or one does not see the witness.

        """
        flight = _Flight(self, function, items, deadline_s)
        try:
            while flight.fill():
                yield from flight.landed()
        finally:
            flight.cancel()


class _Flight:
    """Tasks under way, for one pass over items."""

    def __init__(
        self, runner: RayRunner, function: Callable[..., Any], items: Iterable[Any], deadline_s: float
    ) -> None:
        import ray

        # Nothing tells Ray that a process has grown: each ends after some tasks, and its leaks with it.
        self._task = ray.remote(max_calls=TASKS_A_PROCESS)(_on_node)
        self._told = (function, deadline_s, runner.witness)
        self._fresh, self._again = map(_Try, items), deque[_Try]()
        self._pending: dict[Any, _Try] = {}
        self._room = _Room(needs_of(function), runner)

    def fill(self) -> bool:
        """Start as many as there is room for; whether any is under way."""
        while len(self._pending) < self._room.tasks():
            one = self._again.popleft() if self._again else next(self._fresh, None)
            if one is None:
                break
            # Ray's own retries make no difference between a crash and a lost node, and none ends for want of memory.
            task = self._task.options(max_retries=0, **self._room.options(one))
            self._pending[task.remote(one.item, *self._told)] = one
        return bool(self._pending)

    def landed(self) -> Iterator[tuple[Any, Any]]:
        """What has ended; nothing when nothing did in a while, so that the room can be looked at again."""
        import ray

        for done in ray.wait(list(self._pending), num_returns=1, timeout=_LOOK_AGAIN_S)[0]:
            one = self._pending.pop(done)
            result = _outcome(done)
            if not isinstance(result, _Loss):
                yield one.item, result
            elif one.again(result):
                self._again.append(one)
            else:
                yield one.item, one.given_up(self._told[1])

    def cancel(self) -> None:
        """Nobody wants the rest any more."""
        import ray

        for unfinished in self._pending:
            ray.cancel(unfinished, force=True)


class _Loss(Enum):
    """How a task may die, and how often it may before it is given up.

    A crash is the item's own doing. Its neighbors can have taken the memory, so each try asks for twice as much. The
    end of a node is nobody's fault, but an item that ends every node that it meets must not go round forever.
    """

    CRASHED = 2
    OUT_OF_MEMORY = 3
    NODE_LOST = 5


@dataclass
class _Try:
    """An item on its way, and how its tries ended so far."""

    item: Any
    losses: Counter[_Loss] = field(default_factory=Counter)

    def again(self, loss: _Loss) -> bool:
        """Note a loss; whether there is another try."""
        self.losses[loss] += 1
        _log.info("%s, try %d: %.200r", loss.name.lower(), self.losses.total(), self.item)
        return self.losses[loss] < loss.value

    def given_up(self, deadline_s: float) -> Failure:
        """What to say of it."""
        last = next(loss for loss, count in self.losses.items() if count >= loss.value)
        if last is _Loss.CRASHED:
            return replace(_died(deadline_s), attempts=self.losses.total())
        what = {_Loss.OUT_OF_MEMORY: "The node ran out of memory while it was worked on, and it was ended",
                _Loss.NODE_LOST: "Every node that worked on it was lost"}[last]  # fmt: skip
        return Failure(last.name.lower(), what, self.losses.total())


class _Room:
    """How many tasks may be under way, by what the living nodes have."""

    def __init__(self, one: Needs, runner: RayRunner) -> None:
        self._needs, self._runner = one, runner
        self._fitting, self._largest = 0, 0.0
        self._looked_s = self._fitted_s = -math.inf

    def tasks(self) -> int:
        """As many as fit and one more for each, so that no core waits for us; looks at the nodes every few seconds.

        Raises:
            VidgenError: None fits, and none did for as long as there is patience.

        """
        if time.monotonic() - self._looked_s >= _LOOK_AGAIN_S:
            self._look()
        if self._runner.cores:
            return max(1, min(2 * self._fitting, int(self._runner.cores / self._needs.cpus)))
        return max(2, 2 * self._fitting)

    def options(self, one: _Try) -> dict[str, float]:
        """What to ask Ray for; after a try that ran out of memory twice as much of it, so with fewer neighbors."""
        more = self._needs.memory_bytes * 2 ** one.losses[_Loss.OUT_OF_MEMORY]
        wanted = replace(self._needs, memory_bytes=more).within(self._largest)
        return {"num_cpus": wanted.cpus, "num_gpus": wanted.gpus, "memory": wanted.memory_bytes}

    def _look(self) -> None:
        import ray

        now = time.monotonic()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        able = [node for node in nodes if replace(self._needs, memory_bytes=0).times(node)]
        self._largest = max((node.get("memory", 0.0) for node in able), default=0.0)
        self._fitting = sum(self._needs.within(self._largest).times(node) for node in able)
        if self._fitting or self._looked_s == -math.inf:
            self._fitted_s = now
        self._looked_s = now
        if not self._fitting and now - self._fitted_s >= self._runner.patience_s:
            raise VidgenError(
                "No node can take a task that the run needs",
                got="; ".join(map(_amounts, nodes)),
                allowed=f"a node with {_amounts(_wanted(self._needs))}",
                move="Add such a node, or start Ray there with --num-cpus and --num-gpus",
            )


def _wanted(needs: Needs) -> dict[str, float]:
    return {"CPU": needs.cpus, "GPU": needs.gpus, "memory": needs.memory_bytes}


def _amounts(amounts: Mapping[str, float]) -> str:
    cpus, gpus, memory = (amounts.get(name, 0.0) for name in ("CPU", "GPU", "memory"))
    return f"{cpus:g} CPUs, {gpus:g} GPUs, {memory / GIB:.1f} GiB"


def _outcome(done: Any) -> Any:
    """What a task gave, or how it was lost; an error of its own is raised as it was there."""
    import ray

    try:
        return ray.get(done)
    except ray.exceptions.OutOfMemoryError:
        return _Loss.OUT_OF_MEMORY
    except (ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError):
        return _Loss.NODE_LOST
    except ray.exceptions.WorkerCrashedError:
        return _Loss.CRASHED
    except ray.exceptions.RayTaskError as error:
        raise error.as_instanceof_cause() from None


def _on_node(item: Item, function: Callable[[Item], Result], deadline_s: float, witness: Path | None) -> Result:
    """The task. A node that came later was not looked at when the run began."""
    if witness is not None and not witness.exists():
        raise VidgenError(
            f"The node {socket.gethostname()} does not see the folder that results go to",
            got=str(witness.parent),
            move="Mount the home there at the same path, or take the node out; the same command goes on from here",
        )
    return _watched(function, item, deadline_s)


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


def _measured(function: Callable[[Item], Result], item: Item, deadline_s: float) -> tuple[Result, int]:
    """What a task gives, and by how many bytes this process is larger than after its first one."""
    result = _watched(function, item, deadline_s)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return result, resident - _SIZE.setdefault("first", resident)


_SIZE: dict[str, int] = {}


def _died(deadline_s: float) -> Failure:
    message = f"The process that worked on it died, or took longer than {deadline_s:g} s"
    return Failure("crashed", message, _ATTEMPTS)
