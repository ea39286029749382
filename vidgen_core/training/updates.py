"""How far a step moves a player's weights: the length of the update over that of the weights.

A healthy run of AdamW stays near 1e-3; far above it forgets, far below it stands still.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from vidgen_core.training.place import Place
from vidgen_core.training.players import Training

__all__ = ["Before", "ratios", "remember"]

Before = dict[str, list[Tensor]]


def remember(players: Mapping[str, Training]) -> Before:
    """Copies of this worker's weights; they hold as much memory as the weights do until the step is over."""
    return {name: [part.clone() for part in one.parts()] for name, one in players.items()}


@torch.no_grad()
def ratios(before: Before, players: Mapping[str, Training], place: Place) -> dict[str, float]:
    """Player -> length of what was added since, over the length of the weights before it; all workers must ask."""
    found = {}
    for name, old in before.items():
        held = players[name].length(old, place)
        torch._foreach_sub_(old, players[name].parts())
        found[name] = (players[name].length(old, place) / held.clamp_min(1e-12)).item()
    return found
