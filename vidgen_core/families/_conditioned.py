"""What families share that are told text and scalars, and learn to do without them for guidance."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from vidgen_core.chance import Chance
from vidgen_core.frozen import Frozen
from vidgen_core.interfaces import Ask, Batch, Family
from vidgen_core.scalars import named

__all__ = ["Conditioned", "ConditionedConfig", "Scalars"]

Scalars = Mapping[str, Tensor]


class ConditionedConfig(Frozen):
    """What the configurations of these families have in common.

    Args:
        text_dropout: Share of training samples whose text is emptied, and whose scalars are left out, for guidance.
        scalar_dropout: Share of training samples that lack one scalar besides, so that any of them may be asked for.

    """

    text_dropout: float = Field(0.1, ge=0, le=1)
    scalar_dropout: float = Field(0.1, ge=0, le=1)


class Conditioned(Family):
    """A family that drops conditions as its configuration says."""

    accepts_scalars = True
    accepts_negative = True
    config: ConditionedConfig

    def _thinned(self, batch: Batch, chance: Chance) -> Batch:
        """The batch as it is learned from: some samples without any condition, some without one of their scalars."""
        told = chance.uniform("text_dropout", batch.index) >= self.config.text_dropout
        scalars = {}
        for name, values in batch.scalars.items():
            kept = told & (chance.uniform(f"scalar_dropout {name}", batch.index) >= self.config.scalar_dropout)
            scalars[name] = values.where(kept, torch.nan)
        return replace(batch, text=None if batch.text is None else batch.text.where(told), scalars=scalars)

    def _scalars_of(self, ask: Ask) -> Callable[[int], Scalars]:
        """An ask's scalars for so many rows: those of guidance, a second half of the batch, have none."""
        given = dict(ask.scalars or {})
        for name in given:
            named(self.space.scalars, name)
        pairs = {name: torch.cat([values, torch.full_like(values, torch.nan)]) for name, values in given.items()}
        return lambda rows: {name: values[:rows] for name, values in pairs.items()}
