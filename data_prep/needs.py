"""What a task holds while it runs, declared beside the function that does it.

A runner that places tasks reads it; one that has only this machine's processes need not.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

__all__ = ["GIB", "Needs", "needs", "needs_of"]

GIB = 2**30
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Needs:
    """Resources of one task.

    Args:
        cpus: Cores.
        gpus: Devices; half of one is a share that two tasks have at the same time.
        memory_bytes: Resident memory that it may grow to; where there is less of it left, it is not started.

    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_bytes: int = GIB

    def times(self, amounts: dict[str, float]) -> int:
        """How many such tasks a node with these amounts ("CPU", "GPU", "memory") takes at once."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self.memory_bytes)}
        return min(int(amounts.get(name, 0.0) / much + 1e-9) for name, much in wanted.items() if much)

    def within(self, memory_bytes: float) -> "Needs":
        """The same, asking for no more memory than that: on a small machine one task at a time still runs."""
        return replace(self, memory_bytes=min(self.memory_bytes, int(memory_bytes)))


def needs(*, cpus: float = 1.0, gpus: float = 0.0, memory_gib: float = 1.0) -> Callable[[Function], Function]:
    """Declare what a task's function needs."""

    def declare(function: Function) -> Function:
        vars(function)["needs"] = Needs(cpus, gpus, int(memory_gib * GIB))
        return function

    return declare


def needs_of(function: Callable[..., Any]) -> Needs:
    """What a function, or a partial call of it, was declared to need; a core and a GiB where nothing was."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "needs", Needs())
