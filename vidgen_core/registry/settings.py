"""What a champion must have: a value of the recipe, which imports nothing heavy."""

from typing import Literal

from pydantic import Field

from vidgen_core.frozen import Frozen

__all__ = ["GateSettings"]


class GateSettings(Frozen):
    """What a champion must have. That it can be drawn from, and saw nothing that was taken down, is asked in any case.

    Args:
        min_color, min_shape, min_direction: Least shares of the exact checks, where these ran.
        distances: Beginnings of the names of the distances that are compared with the champion's.
        worst_ratio: The candidate's distance may be so many times the champion's when their intervals overlap.
        min_samples: Least number of videos on each side of a distance that is compared.
        min_nearest_ratio: Least nearest-training-clip ratio, where it was measured: how far made clips are from the
            closest clip learned from, over the same for held-out clips. Far below 1 the model repeats what it saw.
        required: What must have been measured at all. What is not asked for here passes where it is missing, and the
            journal says that it was.

    """

    min_color: float = 0.0
    min_shape: float = 0.0
    min_direction: float = 0.0
    distances: tuple[str, ...] = ("rfd",)
    worst_ratio: float = 1.25
    min_samples: int = Field(default=8, ge=2)
    min_nearest_ratio: float = Field(default=0.0, ge=0)
    required: tuple[Literal["distances", "nearest_ratio", "resume_proof"], ...] = ()

    @property
    def wanted(self) -> dict[str, float]:
        """Aspect of the exact checks -> the least share that is asked for; what needs none is left out."""
        least = {"color": self.min_color, "shape": self.min_shape, "direction": self.min_direction}
        return {aspect: share for aspect, share in least.items() if share > 0}
