"""The loop: a generator that yields after each optimizer step.

It owns accumulation, clipping, precision, averages and counters. Whoever runs it saves, evaluates, logs and stops with
ordinary `if`s.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vidgen_core.chance import Chance
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Batch, Learner
from vidgen_core.training import split
from vidgen_core.training.place import Place
from vidgen_core.training.players import Training, Turn
from vidgen_core.training.schedule import rate
from vidgen_core.training.settings import TrainSettings
from vidgen_core.training.units import plain_name
from vidgen_core.training.updates import ratios, remember

__all__ = ["State", "Step", "precision", "run"]


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    Attributes:
        number: Steps done, this one included.
        turns: What each player's turns came to, in their order.
        rate: The learning rate.
        wait_s: Seconds that the loop waited for samples.
        updates: Length of each player's update over that of its weights; of steps that are logged, otherwise {}.
        pieces: What this worker learned from.

    """

    number: int
    turns: Sequence[Turn]
    rate: float
    wait_s: float
    updates: Mapping[str, float]
    pieces: Sequence[Batch] = ()

    @property
    def stop(self) -> bool:
        """Whether a worker was asked to stop; all workers learn of it at the same step."""
        return any(turn.stop for turn in self.turns)


class State:
    """Everything that a step changes.

    Args:
        learner: What learns; it must stand on its device.
        settings: How it learns.

    """

    def __init__(self, learner: Learner, settings: TrainSettings) -> None:
        self.learner = learner
        self.players = {name: Training(name, player, settings) for name, player in learner.players().items()}
        owned = [id(value) for training in self.players.values() for value in training.weights.values()]
        if sorted(owned) != sorted(id(value) for value in learner.parameters() if value.requires_grad):
            raise ValueError("the players of a learner must own each trainable parameter exactly once")
        self._is_split = any(training.is_split for training in self.players.values())
        self.step = self.skipped = self.skipped_in_row = 0

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps, by name: live tensors, of which a worker may hold a part."""
        learner = {f"learner/{name}": tensor for name, tensor in self.learner.state_dict().items()}
        players = {
            f"players/{player}/{name}": tensor
            for player, training in self.players.items()
            for name, tensor in training.tensors().items()
        }
        return {**learner, **players}

    def counters(self) -> dict[str, Any]:
        """What a checkpoint keeps besides tensors."""
        players = {name: training.steps for name, training in self.players.items()}
        return {"step": self.step, "skipped": self.skipped, "skipped_in_row": self.skipped_in_row, "players": players}

    def count_from(self, counters: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's counters."""
        self.step, self.skipped = counters["step"], counters["skipped"]
        self.skipped_in_row = counters["skipped_in_row"]
        for name, training in self.players.items():
            training.steps = counters["players"][name]

    def learn(self, player: str, loss: Tensor) -> None:
        """Add one piece's gradient to a player's weights, and to no other's."""
        # Where weights are split, their gradients pass by functions that must all run; others forget what they got.
        self.players[player].learn(loss, alone=not self._is_split)
        if self._is_split:
            for name, training in self.players.items():
                if name != player:
                    training.forget()

    def tracked(self) -> dict[str, Tensor]:
        """The power-function averages, named LENGTH/PLAYER/WEIGHT by the learner's names of weights: live tensors."""
        names = {id(value): plain_name(name) for name, value in self.learner.named_parameters()}
        return {
            f"{length}/{player}/{names[id(training.weights[weight])]}": value
            for player, training in self.players.items()
            for (length, weight), value in training.tracked().items()
        }

    def averaged_weights(self) -> dict[str, Tensor]:
        """The learner's whole state with averaged weights, on the CPU; every worker must ask."""
        with self.averaged() as learner:
            return {name: split.whole(value).cpu().clone() for name, value in learner.state_dict().items()}

    @contextmanager
    def averaged(self) -> Iterator[Learner]:
        """The learner with its averaged weights, for as long as the block lasts."""
        for training in self.players.values():
            training.swap()
        try:
            yield self.learner
        finally:
            for training in self.players.values():
                training.swap()

    def count(self, turns: Sequence[Turn], settings: TrainSettings, pieces: Sequence[Batch] = ()) -> None:
        """Note a step that was taken on this worker's pieces of a batch.

        Raises:
            VidgenError: Too many steps in a row had a turn that was not finite.

        """
        lost = [turn for turn in turns if not turn.stepped]
        self.step += 1
        self.skipped += bool(lost)
        self.skipped_in_row = self.skipped_in_row + 1 if lost else 0
        if self.skipped_in_row >= settings.nonfinite_limit:
            spoiled = sum(int((~piece.video.flatten(1).isfinite().all(1)).sum()) for piece in pieces)
            cure = "Lower training.learning_rate, or train with training.precision=fp32"
            raise VidgenError(
                f"The loss or gradient of {lost[0].player!r} was not finite {self.skipped_in_row} steps in a row",
                got=f"step {self.step}: loss {lost[0].loss}, gradient {lost[0].norm}, "
                f"{spoiled} stored samples with values that are not finite",
                move="vidgen latents --verify --share 1 names the damaged samples and how to mend them"
                if spoiled
                else cure,
            )


def run(
    state: State, batches: Iterable[Sequence[Batch]], *, chance: Chance, settings: TrainSettings, place: Place,
    stop: Callable[[], bool] = bool,
) -> Iterator[Step]:  # fmt: skip
    """Learn from each item of `batches`, this worker's pieces of one step; yields after the step is taken.

    Args:
        state: What learns.
        batches: What from.
        chance: Where draws come from.
        settings: How.
        place: Which worker this is.
        stop: Whether this worker was asked to stop; the steps that follow say so on all workers.

    """
    batches, chance = iter(batches), chance.on(place.device)
    state.learner.train()
    while True:
        waiting = time.perf_counter()
        pieces = next(batches, None)
        wait_s = time.perf_counter() - waiting
        if pieces is None:
            return
        step_rate = rate(settings, state.step)
        pieces = [piece.to(place.device) for piece in pieces]
        take = partial(Training.turn, rate=step_rate, place=place, stop=stop())
        before = remember(state.players) if (state.step + 1) % settings.log_every == 0 else {}
        turns = list(_turns(state, pieces, take, chance=chance, settings=settings, place=place))
        state.count(turns, settings, pieces)
        yield Step(state.step, turns, step_rate, wait_s, ratios(before, state.players, place), pieces)


def precision(settings: TrainSettings, place: Place) -> torch.autocast:
    """The context of a forward pass."""
    half = settings.precision == "bf16" or (settings.precision == "auto" and place.native_bfloat16)
    return torch.autocast(torch.device(place.device).type, torch.bfloat16, enabled=half)


def _turns(
    state: State, pieces: Sequence[Batch], take: Callable[[Training], Turn], *, chance: Chance,
    settings: TrainSettings, place: Place,
) -> Iterator[Turn]:  # fmt: skip
    """Play the learner's turns with all pieces side by side: each player steps once a turn, on all of them."""
    games = [state.learner.losses(piece, chance) for piece in pieces]
    for number in itertools.count():
        names = set()
        for piece, game in enumerate(games):
            # Layers that draw from torch's own generator draw by step, turn and piece too, not by history.
            key = (state.step, number, place.rank * len(games) + piece)
            place.seed(chance.generator("torch", *key))
            with precision(settings, place):
                name, loss = next(game, _OVER)
            if name is not None:
                state.learn(name, loss)
            names.add(name)
        if names == {None}:
            return
        if len(names) > 1:
            raise ValueError(f"every piece of a batch must take the same turns, not {names}")
        yield take(state.players[names.pop()])


_OVER: tuple[Any, Any] = (None, None)
