"""Watching a run from beside it: each checkpoint that it publishes, as the learner that it would be if it ended there.

Whoever watches reads what is on the disk and nothing else, so that a run neither waits for it nor learns of it.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from vidgen_core.interfaces import Learner
from vidgen_core.training import checkpoints
from vidgen_core.training.job import Job

__all__ = ["averaged", "follow"]

_LOOK_S = 1.0


def follow(job: Job, look: Callable[[Learner, int], None]) -> None:
    """Call `look(learner, step)` for the newest checkpoint, again when there is a newer one, until the run has ended.

    A run that publishes faster than `look` looks is seen at fewer steps; its last checkpoint is always among them.
    """
    seen = 0
    while True:
        # Asked before the checkpoints: the result comes after the last of them.
        ended = job.final_dir.exists()
        found = checkpoints.latest(job.work_dir / "checkpoints") if _newest(job) > seen else None
        if found is not None and found.parts is not None and found.step > seen:
            look(averaged(job, found.parts), found.step)
            seen = found.step
        if ended:
            return
        time.sleep(_LOOK_S)


def averaged(job: Job, parts: Mapping[str, Any]) -> Learner:
    """The learner of a checkpoint with its averaged weights."""
    learner = job.build()
    learner.load_state_dict(parts["learner"])
    with torch.no_grad():
        for name, player in learner.players().items():
            for key, value in player.parameters.items():
                value.copy_(parts["players"][name]["average"][key])
    return learner.eval().requires_grad_(False)


def _newest(job: Job) -> int:
    """Step of the newest checkpoint by its name alone, 0 when there is none."""
    folders = [place.name for place in (job.work_dir / "checkpoints").glob("step-*")]
    return max((int(name.removeprefix("step-")) for name in folders), default=0)
