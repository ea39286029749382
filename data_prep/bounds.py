"""What one source may take: bounded memory for what decodes it, and what becomes of a source that cannot be read.

A file may claim any size of picture, and some decoders believe it. While a source is decoded, the process can get no
more address space than it has and a bound on top, so what would end the machine ends that source.
"""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

from data_prep.decode import Undecodable
from data_prep.run import Failure
from data_prep.sources import Source

__all__ = ["bounded_memory", "costs_itself"]

# A picture of 8K with 10 bits is 100 MB; a decoder may hold 16 of them, and its picture is converted besides.
_MOST_BYTES = 4 * 2**30
Item = TypeVar("Item", bound="OfSource")
Result = TypeVar("Result")
Rest = ParamSpec("Rest")


class OfSource(Protocol):
    """An item that is about a source."""

    @property
    def source(self) -> Source:
        """Which."""
        ...


@contextmanager
def bounded_memory(most_bytes: int | None = None) -> Iterator[None]:
    """Let this process grow by so much address space and no more; what does not fit raises `MemoryError`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (most_bytes or _MOST_BYTES)
    for bound in (soft, hard):
        limit = limit if bound == resource.RLIM_INFINITY else min(limit, bound)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def costs_itself(
    work: Callable[Concatenate[Item, Rest], Result],
) -> Callable[Concatenate[Item, Rest], Result | Failure]:
    """Make a source that a task cannot read, any more or within its memory, a `Failure` and not the end of the run."""

    @wraps(work)
    def survived(item: Item, *rest: Rest.args, **named: Rest.kwargs) -> Result | Failure:
        try:
            return work(item, *rest, **named)
        except Undecodable as error:
            return Failure(error.reason, error.message, 1)
        except MemoryError:
            return Failure("too_large", f"It needs more than {_MOST_BYTES / 2**30:g} GiB to decode", 1)
        except FileNotFoundError as error:
            if str(error.filename) != str(item.source.file):
                raise
            return Failure("gone", "The file is not there any more", 1)

    return cast(Callable[Concatenate[Item, Rest], Result | Failure], survived)
