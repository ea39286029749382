"""A player while it learns: its weights, their one flat gradient, its optimizers, its averaged weights."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vidgen_core.interfaces import Player
from vidgen_core.training.place import Place
from vidgen_core.training.settings import TrainSettings

__all__ = ["Training", "Turn"]


class Turn(NamedTuple):
    """What one player's turn came to: the loss and the gradient's length over all workers, and whether it stepped."""

    player: str
    loss: float
    norm: float
    stepped: bool


class Training:
    """A player with what it needs to learn.

    All gradients are views of one flat tensor, so that clearing, summing over workers and measuring them is one
    operation each, however many weights there are. The last element carries the loss along.

    Args:
        name: The player's name.
        player: Its weights.
        settings: How it learns.

    """

    def __init__(self, name: str, player: Player, settings: TrainSettings) -> None:
        self.name, self._settings = name, settings
        self.weights: Mapping[str, nn.Parameter] = dict(player.parameters)
        values = list(self.weights.values())
        _check(name, values)
        self._relative_rate = player.relative_rate
        self._flat = torch.zeros(sum(value.numel() for value in values) + 1, device=values[0].device)
        for value, gradient in zip(values, self._flat[:-1].split([v.numel() for v in values]), strict=True):
            value.grad = gradient.view_as(value)
        self._optimizers = _optimizers(self.weights, player, settings)
        self.average = {name: value.detach().clone() for name, value in self.weights.items()}
        self.steps = 0

    def learn(self, loss: Tensor) -> None:
        """Add one piece's gradient to this player's weights, and to no other's."""
        torch.autograd.backward(loss, inputs=list(self.weights.values()))
        self._flat[-1] += loss.detach()

    def turn(self, rate: float, place: Place) -> Turn:
        """Step along the mean gradient of all pieces, unless it or the loss is not finite."""
        place.sum_(self._flat)
        self._flat /= self._settings.pieces
        # The one read of the device in a turn: whether to step cannot wait.
        loss, norm = torch.stack([self._flat[-1], self._flat[:-1].norm()]).tolist()
        stepped = math.isfinite(loss) and math.isfinite(norm)
        if stepped:
            if norm > self._settings.clip_norm:
                self._flat[:-1].mul_(self._settings.clip_norm / norm)
            for optimizer, share in self._optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate * share * self._relative_rate
                optimizer.step()
            self._follow()
        self._flat.zero_()
        return Turn(self.name, loss, norm, stepped)

    def swap(self) -> None:
        """Exchange weights and averaged weights; twice is nothing."""
        for name, value in self.weights.items():
            value.data, self.average[name] = self.average[name], value.data

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps besides the weights."""
        return {
            "optimizers": [one.state_dict() for one, _ in self._optimizers],
            "average": self.average,
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        for (optimizer, _), kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.steps = state["steps"]
        for name, value in self.average.items():
            value.copy_(state["average"][name])

    def _follow(self) -> None:
        decay = min(self._settings.ema_decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.weights.values()), 1 - decay)


def _optimizers(
    weights: Mapping[str, nn.Parameter], player: Player, settings: TrainSettings
) -> list[tuple[torch.optim.Optimizer, float]]:
    """The player's optimizers, each with its rate over the run's."""
    taken = player.hidden if settings.optimizer == "muon" else frozenset()
    rest = [value for name, value in weights.items() if name not in taken]
    groups = [([v for v in rest if v.ndim > 1], settings.weight_decay), ([v for v in rest if v.ndim <= 1], 0.0)]
    kept = [{"params": some, "weight_decay": decay} for some, decay in groups if some]
    made: list[tuple[torch.optim.Optimizer, float]] = []
    if kept:
        made.append((torch.optim.AdamW(kept, betas=settings.betas, fused=True), 1.0))
    if taken:
        matrices = [value for name, value in weights.items() if name in taken]
        muon = torch.optim.Muon(matrices, lr=settings.muon_rate, weight_decay=0.0, adjust_lr_fn="original")
        made.append((muon, settings.muon_rate / settings.learning_rate))
    return made


def _check(name: str, values: list[nn.Parameter]) -> None:
    types = {value.dtype for value in values}
    if types != {torch.float32}:
        raise ValueError(f"player {name!r} must own float32 weights, not {sorted(map(str, types))}")
