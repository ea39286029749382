"""A number that a video is conditioned on, such as how much it moves, and how it is spread over what is learned from.

Scores differ in unit and have long tails, so a model is told a number's rank: the share of the clips learned from that
do not exceed it. The quantiles that ranks are read from belong to the model, so sampling uses those of training.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from vidgen_core.errors import VidgenError, did_you_mean
from vidgen_core.frozen import Frozen

__all__ = ["Scalar", "named"]

_QUANTILES = 65


class Scalar(Frozen):
    """One such number.

    Args:
        name: What it is called in tables and requests.
        quantiles: Its values at evenly spaced ranks from 0 to 1, ascending.

    """

    name: str
    quantiles: tuple[float, ...] = Field(min_length=2)

    @classmethod
    def of(cls, name: str, values: ArrayLike) -> "Scalar":
        """How values are spread [N]; NaN is a missing one and does not count.

        Raises:
            VidgenError: All are missing.

        """
        found = np.asarray(values, np.float64)
        found = found[~np.isnan(found)]
        if not len(found):
            raise VidgenError(
                f"No clip to learn from has the score {name!r}, so it cannot be a condition",
                move=f"Give its weights, data.scores.NAME.weights=FILE, or take {name!r} out of conditions",
            )
        return cls(name=name, quantiles=tuple(np.quantile(found, np.linspace(0, 1, _QUANTILES)).tolist()))

    def at(self, rank: float) -> float:
        """The value at a rank from 0 to 1, in the score's own unit."""
        return float(np.interp(rank, np.linspace(0, 1, len(self.quantiles)), self.quantiles))


def named(scalars: Sequence[Scalar], name: str) -> Scalar:
    """The scalar of a name.

    Raises:
        VidgenError: There is none.

    """
    for scalar in scalars:
        if scalar.name == name:
            return scalar
    known = [scalar.name for scalar in scalars]
    raise VidgenError(
        f"The model knows no condition {name!r}",
        allowed=", ".join(known) or "none: it was trained without conditions",
        move=did_you_mean(name, known),
    )
