"""Watching a run from beside it: each checkpoint that it publishes, as the learner that it would be if it ended there.

Whoever watches reads what is on the disk and nothing else, so that a run neither waits for it nor learns of it.
"""

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vidgen_core.interfaces import Learner
from vidgen_core.training import checkpoints
from vidgen_core.training.job import Job
from vidgen_core.training.store import store_at

__all__ = ["averaged", "follow"]

_LOOK_S = 1.0


def follow(job: Job, look: Callable[[Learner, int], None]) -> None:
    """Call `look(learner, step)` for the newest checkpoint, again when there is a newer one, until the run has ended.

    A run that publishes faster than `look` looks is seen at fewer steps; its last checkpoint is always among them.
    """
    seen, store = 0, store_at(job.checkpoints)
    while True:
        # Asked before the checkpoints: the result comes after the last of them.
        ended = job.final_dir.exists()
        found = checkpoints.newest(store, after=seen)
        if found is not None:
            seen, tensors = found
            look(averaged(job, tensors), seen)
        if ended:
            return
        time.sleep(_LOOK_S)


def averaged(job: Job, tensors: Mapping[str, Tensor]) -> Learner:
    """The learner of a checkpoint with its averaged weights."""
    learner, prefix = job.build(), "learner/"
    state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    learner.load_state_dict(state)
    with torch.no_grad():
        for name, player in learner.players().items():
            for key, value in player.parameters.items():
                value.copy_(tensors[f"players/{name}/average/{key}"])
    return learner.eval().requires_grad_(False)
