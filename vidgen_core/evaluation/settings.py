"""What an evaluation measures: a value of the recipe, which imports nothing heavy."""

from pydantic import Field

from vidgen_core.frozen import Frozen

__all__ = ["EvaluationSettings"]


class EvaluationSettings(Frozen):
    """What is measured.

    Args:
        samples: Videos for the distances, with the captions of held-out clips as prompts.
        truth_prompts: Prompts for the exact checks.
        seed: Of the samples.

    """

    samples: int = Field(default=128, ge=4)
    truth_prompts: int = Field(default=64, ge=1)
    seed: int = 0
