"""How samples are drawn: a value of the recipe and of a model's card, which imports nothing heavy."""

from vidgen_core.frozen import Frozen

__all__ = ["Sampling"]


class Sampling(Frozen):
    """How samples are drawn when nothing else is said."""

    sampler: str = "heun"
    steps: int = 16
    guidance: float = 2.0
