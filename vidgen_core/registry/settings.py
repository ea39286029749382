"""What a champion must have: a value of the recipe, which imports nothing heavy."""

from vidgen_core.frozen import Frozen

__all__ = ["GateSettings"]


class GateSettings(Frozen):
    """What a champion must have.

    Args:
        min_color, min_shape, min_direction: Least shares of the exact checks, where these ran.
        worst_ratio: The candidate's distance may be so many times the champion's when their intervals overlap.

    """

    min_color: float = 0.0
    min_shape: float = 0.0
    min_direction: float = 0.0
    worst_ratio: float = 1.25

    @property
    def wanted(self) -> dict[str, float]:
        """Aspect of the exact checks -> the least share that is asked for; what needs none is left out."""
        least = {"color": self.min_color, "shape": self.min_shape, "direction": self.min_direction}
        return {aspect: share for aspect, share in least.items() if share > 0}
