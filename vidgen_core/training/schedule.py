"""The learning rate as a function of the step."""

import math

from vidgen_core.training.settings import TrainSettings

__all__ = ["rate"]


def rate(settings: TrainSettings, step: int) -> float:
    """The learning rate of step `step`, counted from 0."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    factor = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}
    return settings.learning_rate * factor[settings.schedule]
