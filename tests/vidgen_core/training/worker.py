"""One worker of a run as a process of its own, for tests that kill it: worker.py JOB_FILE RANK WORLD MEETING_FILE."""

import os
import sys
from datetime import timedelta
from pathlib import Path

from torch import distributed

import vidgen_core.families
from vidgen_core.training.fit import fit
from vidgen_core.training.job import Job
from vidgen_core.training.place import Place


def main(job_file: str, rank: str, world: str, meeting_file: str) -> None:
    vidgen_core.families.__path__.append(str(Path(__file__).parent / "toys"))
    job = Job.model_validate_json(Path(job_file).read_text())
    if int(world) > 1:
        distributed.init_process_group(
            "gloo", init_method=f"file://{meeting_file}", rank=int(rank), world_size=int(world),
            timeout=timedelta(seconds=60),
        )  # fmt: skip
    fit(job, place=Place(int(rank), int(world)))
    if int(world) > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
    # Gloo's threads sometimes abort a process that ends as usual, when all its work is done.
    os._exit(0)
