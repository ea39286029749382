"""What a champion must have: a value of the recipe, which imports nothing heavy."""

from typing import Literal

from pydantic import Field, field_validator

from vidgen_core.frozen import Frozen
from vidgen_core.licenses import check_wanted

__all__ = ["GateSettings"]


class GateSettings(Frozen):
    """What a champion must have. That it can be drawn from, and saw nothing that was taken down, is asked in any case.

    Args:
        min_color, min_shape, min_direction: Least shares of the exact checks, where these ran.
        distances: Beginnings of the names of the set metrics that are compared with the champion's, whichever way
            better lies. Where intervals overlap none is worse.
        worst_ratio: Even where they do not, the candidate's may be so many times worse.
        min_samples: Least number of videos on each side of a distance that is compared.
        min_nearest_ratio: Least nearest-training-clip ratio, where it was measured: how far made clips are from the
            closest clip learned from, over the same for held-out clips. Far below 1 the model repeats what it saw.
        licenses: Names or patterns, such as CC-BY-*, of which the license of every clip of its data release must be
            one; an unknown license is none. Empty asks for nothing.
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
    licenses: tuple[str, ...] = Field((), exclude_if=lambda licenses: not licenses)
    required: tuple[Literal["distances", "nearest_ratio", "resume_proof", "truth"], ...] = ()

    @field_validator("licenses")
    @classmethod
    def _are_licenses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_wanted(value)

    @property
    def wanted(self) -> dict[str, float]:
        """Aspect of the exact checks -> the least share that is asked for; what needs none is left out."""
        least = {"color": self.min_color, "shape": self.min_shape, "direction": self.min_direction}
        return {aspect: share for aspect, share in least.items() if share > 0}
