"""The held-out pass: the learner's own objective on samples it never trains on, with averaged weights."""

import torch

from vidgen_core.chance import Chance
from vidgen_core.training.loop import State, precision
from vidgen_core.training.order import Order, in_pieces
from vidgen_core.training.place import Place
from vidgen_core.training.samples import Samples
from vidgen_core.training.settings import TrainSettings

__all__ = ["held_out"]


def held_out(
    state: State, samples: Samples, *, chance: Chance, settings: TrainSettings, place: Place
) -> dict[str, float]:
    """Mean value by name over at most `settings.held_out_samples` samples, always the same ones; {} without samples.

    Workers share the batches and every value is averaged in one order, so that their number does not matter. Draws
    come from a source of their own: a pass leaves the training that follows as it was.
    """
    chance = chance.within("held_out").on(place.device)
    first = Order(max(1, len(samples)), chance).first(min(len(samples), settings.held_out_samples))
    size = settings.batch // settings.pieces
    own: dict[int, dict[str, list[float]]] = {}
    with state.averaged() as learner, torch.no_grad():
        learner.eval()
        pieces = in_pieces(samples, first, size)
        # Where weights are split, the others need a worker that nothing is left for: it repeats the first piece.
        for start in range(0, len(pieces), place.world):
            mine = start + place.rank
            positions, numbers = pieces[mine] if mine < len(pieces) else pieces[0]
            batch = samples.batch(numbers, positions).to(place.device)
            place.seed(chance.generator("torch", positions.start))
            with precision(settings, place):
                values = learner.held_out(batch, chance)
            if mine < len(pieces):
                own[positions.start] = {name: value.double().tolist() for name, value in values.items()}
        learner.train()
    parts = sorted((start, values) for part in place.gather(own) for start, values in part.items())
    names = parts[0][1] if parts else {}
    return {
        name: torch.tensor([value for _, values in parts for value in values[name]], dtype=torch.float64).mean().item()
        for name in names
    }
