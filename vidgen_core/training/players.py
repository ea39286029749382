"""A player while it learns: its weights, their one flat gradient, its optimizers, its averaged weights."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vidgen_core.interfaces import Player
from vidgen_core.training import split
from vidgen_core.training.muon import Muon
from vidgen_core.training.place import Place
from vidgen_core.training.power_averages import decay, exponent
from vidgen_core.training.settings import TrainSettings
from vidgen_core.training.units import plain_name

__all__ = ["Training", "Turn"]


class Turn(NamedTuple):
    """What one player's turn came to over all workers.

    Attributes:
        player: Its name.
        loss: Mean over pieces.
        norm: Length of the gradient of all weights.
        stepped: Whether it stepped; not where the loss or the gradient is not finite.
        stop: Whether a worker was asked to stop.

    """

    player: str
    loss: float
    norm: float
    stepped: bool
    stop: bool = False


class Training:
    """A player with what it needs to learn.

    All gradients are views of one flat tensor, so that clearing, summing over workers and measuring them is one
    operation each, however many weights there are: first those of weights that are split among workers, which arrive
    summed, then those of whole weights, the loss, and whether this worker was asked to stop.

    Args:
        name: The player's name.
        player: Its weights.
        settings: How it learns.

    """

    def __init__(self, name: str, player: Player, settings: TrainSettings) -> None:
        self.name, self._settings = name, settings
        self.weights: Mapping[str, nn.Parameter] = {plain_name(key): value for key, value in player.parameters.items()}
        _check(name, self.weights.values())
        self._relative_rate = player.relative_rate
        self.is_split = any(isinstance(value, DTensor) for value in self.weights.values())
        ordered = sorted(self.weights.values(), key=lambda value: not isinstance(value, DTensor))
        parts = [split.local(value) for value in ordered]
        self._flat = torch.zeros(sum(part.numel() for part in parts) + 2, device=parts[0].device)
        for value, part, flat in zip(ordered, parts, self._flat[:-2].split([p.numel() for p in parts]), strict=True):
            value.grad = split.like(flat.view_as(part), value)
        parted = sum(part.numel() for value, part in zip(ordered, parts, strict=True) if isinstance(value, DTensor))
        self._parted, self._whole = self._flat[:parted], self._flat[parted:]
        self._group = split.group_of(ordered[0])
        # What the optimizers see: this worker's part of each weight, or the weight itself where it is whole.
        self._leaves = {name: _leaf(value) for name, value in self.weights.items()}
        self._optimizers = _optimizers(self._leaves, self.weights, player, settings)
        self.average = {name: leaf.detach().clone() for name, leaf in self._leaves.items()}
        self._powers = {one: exponent(one) for one in settings.ema_lengths}
        self._tracked = {
            one: {name: leaf.detach().clone() for name, leaf in self._leaves.items()} for one in self._powers
        }
        self.steps = 0

    def learn(self, loss: Tensor, *, alone: bool = True) -> None:
        """Add one piece's gradient to this player's weights, and when not `alone` to all that the loss depends on."""
        torch.autograd.backward(loss, inputs=list(self.weights.values()) if alone else None)
        self._flat[-2] += loss.detach()

    def forget(self) -> None:
        """Drop the gradient that another player's loss left here."""
        self._flat.zero_()

    def turn(self, rate: float, place: Place, stop: bool = False) -> Turn:
        """Step along the mean gradient of all pieces, unless it or the loss is not finite."""
        self._flat[-1] = float(stop)
        place.sum_(self._whole)
        self._flat /= self._settings.pieces
        # The one read of the device in a turn: whether to step cannot wait.
        loss, stopping, norm = torch.stack([*self._flat[-2:], self._length(place)]).tolist()
        stepped = math.isfinite(loss) and math.isfinite(norm)
        if stepped:
            if norm > self._settings.clip_norm:
                self._flat[:-2].mul_(self._settings.clip_norm / norm)
            for optimizer, share in self._optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate * share * self._relative_rate
                optimizer.step()
            self._follow()
        self._flat.zero_()
        return Turn(self.name, loss, norm, stepped, stopping > 0)

    def swap(self) -> None:
        """Exchange weights and averaged weights; twice is nothing."""
        for name, value in self.weights.items():
            if isinstance(value, DTensor):
                # Its memory is where workers fetch it from, and must stay in its place.
                leaf, held = self._leaves[name].detach(), self.average[name].clone()
                self.average[name].copy_(leaf)
                leaf.copy_(held)
            else:
                value.data, self.average[name] = self.average[name], value.data

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps besides the weights, by name: live tensors, split as the weights are."""
        kept = {f"average/{name}": split.like(value, self.weights[name]) for name, value in self.average.items()}
        kept |= {f"power/{one}/{name}": value for (one, name), value in self.tracked().items()}
        for optimizer, _ in self._optimizers:
            for name, leaf in self._leaves.items():
                for field, value in optimizer.state.get(leaf, {}).items():
                    parted = value.shape == leaf.shape and value.ndim > 0
                    kept[f"{field}/{name}"] = split.like(value, self.weights[name]) if parted else value
        return kept

    def tracked(self) -> dict[tuple[str, str], Tensor]:
        """The power-function averages by length and weight: live tensors, split as the weights are."""
        return {
            (f"{one:g}", name): split.like(value, self.weights[name])
            for one, average in self._tracked.items()
            for name, value in average.items()
        }

    def parts(self) -> list[Tensor]:
        """The part of each weight that this worker holds, live."""
        return [leaf.detach() for leaf in self._leaves.values()]

    def length(self, parts: Sequence[Tensor], place: Place) -> Tensor:
        """Length of tensors that are split as the weights are, over all workers."""
        squares = torch.stack(torch._foreach_norm(list(parts))).square()
        of_split = torch.tensor([isinstance(v, DTensor) for v in self.weights.values()], device=squares.device)
        split_ones = squares[of_split].sum()
        if self.is_split:
            place.sum_(split_ones, self._group)
        return (split_ones + squares[~of_split].sum()).sqrt()

    def _length(self, place: Place) -> Tensor:
        if not self.is_split:
            return self._flat[:-2].norm()
        squares = self._parted.square().sum()
        place.sum_(squares, self._group)
        return (squares + self._whole[:-2].square().sum()).sqrt()

    def _follow(self) -> None:
        decays = [(self.average, min(self._settings.ema_decay, (1 + self.steps) / (10 + self.steps)))]
        self.steps += 1
        decays += [(average, decay(self.steps, self._powers[one])) for one, average in self._tracked.items()]
        for average, stays in decays:
            torch._foreach_lerp_(list(average.values()), self.parts(), 1 - stays)


def _leaf(value: nn.Parameter) -> nn.Parameter:
    if not isinstance(value, DTensor):
        return value
    leaf = nn.Parameter(split.local(value))
    assert value.grad is not None
    leaf.grad = split.local(value.grad)
    return leaf


def _optimizers(
    leaves: Mapping[str, nn.Parameter], weights: Mapping[str, nn.Parameter], player: Player, settings: TrainSettings
) -> list[tuple[torch.optim.Optimizer, float]]:
    """The player's optimizers, each with its rate over the run's; their state is there before the first step."""
    taken = {plain_name(name) for name in player.hidden} if settings.optimizer == "muon" else set()
    rest = [(leaf, weights[name].ndim) for name, leaf in leaves.items() if name not in taken]
    groups = [
        ([leaf for leaf, axes in rest if axes > 1], settings.weight_decay),
        ([v for v, axes in rest if axes <= 1], 0.0),
    ]
    kept = [{"params": some, "weight_decay": decay} for some, decay in groups if some]
    made: list[tuple[torch.optim.Optimizer, float]] = []
    if kept:
        adamw = torch.optim.AdamW(kept, betas=player.betas or settings.betas, fused=True)
        for leaf, _ in rest:
            step = torch.zeros((), dtype=torch.float32, device=leaf.device)
            adamw.state[leaf] = {"step": step, "exp_avg": torch.zeros_like(leaf), "exp_avg_sq": torch.zeros_like(leaf)}
        made.append((adamw, 1.0))
    if taken:
        matrices = [(leaf, *_gathering(weights[name])) for name, leaf in leaves.items() if name in taken]
        made.append((Muon(matrices, settings.muon_rate), settings.muon_rate / settings.learning_rate))
    return made


def _gathering(weight: nn.Parameter) -> tuple[Any, Any]:
    """How to get a whole matrix from parts that are split as a weight is, and parts from the whole."""
    return lambda part: split.whole(split.like(part, weight)), partial(split.part_of, pattern=weight)


def _check(name: str, values: Iterable[nn.Parameter]) -> None:
    types = {value.dtype for value in values}
    if types != {torch.float32}:
        raise ValueError(f"player {name!r} must own float32 weights, not {sorted(map(str, types))}")
