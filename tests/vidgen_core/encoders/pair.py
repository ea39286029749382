"""One of two workers that share a batch: pair.py RANK MEETING_FILE OUT_FILE ENCODER...; see test_across.py."""

import os
import sys
from pathlib import Path

import torch
from torch import distributed

from vidgen_core import discovery
from vidgen_core.chance import Chance
from vidgen_core.encoders.hashed_words import Config as HashedWords
from vidgen_core.interfaces import Batch


def batch(places):
    """Samples at some places of a stream; a sample is the same in every batch."""
    rows = [torch.rand(3, 9, 32, 32, generator=torch.Generator().manual_seed(place)) * 2 - 1 for place in places]
    text = HashedWords.tiny().build().encode([f"a {('red', 'blue', 'green')[place % 3]} shape" for place in places])
    return Batch(torch.stack(rows), text, torch.tensor(places), {"label": torch.tensor(places).float() % 3})


def learned(name, places, workers):
    """The mean loss over workers, its gradient and the running statistics, after one pass over this worker's share."""
    torch.manual_seed(0)
    encoder = discovery.load("vidgen_core.encoders", name).Config.tiny().build()
    ((_, loss),) = encoder.losses(batch(places), Chance(0))
    (loss / workers).backward()
    told = {"loss": loss.detach() / workers} | {key: value.grad for key, value in encoder.named_parameters()}
    if workers > 1:
        for value in told.values():
            distributed.all_reduce(value)
    return told | {key: value for key, value in encoder.named_buffers() if "running" in key}


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, meeting, out, *names = sys.argv[1:]
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=int(rank), world_size=2)
    places = [[0, 1, 2], [3, 4, 5]][int(rank)]
    told = {name: learned(name, places, 2) for name in names}
    if rank == "0":
        torch.save(told, Path(out))
    distributed.barrier()
    # Gloo's threads sometimes abort a process that ends as usual, when all its work is done.
    os._exit(0)
