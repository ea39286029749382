"""Work beside a training: a Ray task of its own, which no worker of the training waits for."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray
import torch
from ray.exceptions import RayError

__all__ = ["beside"]

_NICE = 19


@contextmanager
def beside(work: Callable[[], None], *, end_s: float) -> Iterator[list[str]]:
    """Run `work` in a process of its own for as long as the block lasts, and at most `end_s` longer.

    It reserves no processor, because a training may hold them all, and takes what others leave. Its failure never
    fails the block: why it failed is in the list that is yielded, once the block has ended.
    """
    why: list[str] = []
    task = ray.remote(num_cpus=0, max_retries=1)(_quietly).remote(work)
    try:
        yield why
        done, _ = ray.wait([task], timeout=end_s)
        if not done:
            why.append(f"it was not done {end_s:.0f} s after the end")
        else:
            ray.get(task)
    except RayError as error:
        why.append(str(error).strip().splitlines()[-1])
    finally:
        # Ray's driver aborts where a task that is about to be done is cancelled, so only one that still works is.
        if not ray.wait([task], timeout=0)[0]:
            ray.cancel(task, force=True)


def _quietly(work: Callable[[], None]) -> None:
    os.nice(_NICE)
    torch.set_num_threads(1)
    work()
