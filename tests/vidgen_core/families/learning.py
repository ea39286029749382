"""Learning in tests, without the loop: one optimizer for all players of a family that has one."""

import torch

from vidgen_core.chance import Chance


def learned(family, batch_of, steps, *, rate=2e-3):
    """The family after some steps; `batch_of(step)` gives what it learns from."""
    optimizer = torch.optim.Adam(family.parameters(), rate)
    for step in range(steps):
        for _, loss in family.losses(batch_of(step), Chance(0)):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return family
