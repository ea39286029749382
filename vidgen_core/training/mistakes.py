"""Mistakes of the user's that a worker found, told to whoever started the workers by a file in the work folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed

from vidgen_core.errors import VidgenError
from vidgen_core.training.job import Job
from vidgen_core.training.place import Place

__all__ = ["forget", "told", "told_by_file"]


@contextmanager
def told_by_file(job: Job, place: Place) -> Iterator[None]:
    """End a worker quietly when it, or another one, met a mistake of the user's.

    A mistake is no reason to start the workers again, so their launcher must not see it. Leaving the process group
    ends the waiting of the others, which then find the file.
    """
    try:
        yield
    except VidgenError as error:
        fields = {"what": error.what, "got": error.got, "allowed": error.allowed, "move": error.move}
        staged = job.work_dir / f".error-{place.rank}.json"
        staged.write_text(json.dumps({**fields, "exit_code": error.exit_code}, default=str))
        staged.replace(job.work_dir / _FILE)
        if distributed.is_initialized():
            distributed.destroy_process_group()
    except RuntimeError:
        if told(job) is None:
            raise


def told(job: Job) -> VidgenError | None:
    """The mistake that a worker met, if one did."""
    file = job.work_dir / _FILE
    return VidgenError(**json.loads(file.read_text())) if file.exists() else None


def forget(job: Job) -> None:
    """Remove what an earlier start of the run has told."""
    (job.work_dir / _FILE).unlink(missing_ok=True)


_FILE = "error.json"
