"""Numbers that can be trusted and compared: with a protocol, an interval, a floor and a count."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen

__all__ = ["Better", "Estimate", "Measurement", "compared", "estimate", "mean_of"]

Features = NDArray[np.float64]
Metric = Callable[[Features, Features], float]
Better = Literal["lower", "higher", "real"]

_DRAWS = 100
_FLOORS = 10


class Estimate(Frozen):
    """A value with its 90 % interval over videos, and the floor: what other real clips reach in the place of the made.

    Args:
        n: Samples on each side.
        floor_n: Samples on each side of the floor; half as many where there were no other real clips.

    """

    value: float
    low: float
    high: float
    floor: float
    n: int
    floor_n: int


class Measurement(Frozen):
    """A number that can be trusted and compared.

    Args:
        name: What and how: metric @ space / frames / size / samples / reference / hash of the protocol.
        protocol: That hash; two numbers compare only when it is the same.
        value, low, high, floor, n: See `Estimate`.
        floor_n: Samples on each side of the floor; 0 is unknown, in evaluations of before it was noted.
        better: Which way better lies; "real" for nearer to the floor.

    """

    name: str
    protocol: str
    value: float
    low: float
    high: float
    floor: float
    n: int
    floor_n: int = 0
    better: Better = "lower"

    @property
    def kind(self) -> str:
        """The name's part before the protocol."""
        return self.name.partition("@")[0]

    @property
    def key(self) -> str:
        """As a tracker keeps it: metric / space."""
        kind, _, rest = self.name.partition("@")
        return f"{kind}/{rest.partition('/')[0]}" if rest else kind

    def loss(self, value: float) -> float:
        """How far a value is from the best, where less is better."""
        return {"lower": value, "higher": -value, "real": abs(value - self.floor)}[self.better]


def compared(ours: Measurement, theirs: Measurement) -> Literal["better", "worse", "even"]:
    """What the intervals say of two models; "even" where they overlap.

    Raises:
        VidgenError: The protocols differ, so that the numbers mean different things.

    """
    if ours.protocol != theirs.protocol or ours.kind != theirs.kind:
        raise VidgenError(
            "Numbers of two protocols cannot be compared",
            got=f"{ours.name} ({ours.protocol}) and {theirs.name} ({theirs.protocol})",
            allowed="the same metric by the same protocol hash",
            move="Evaluate both models with the same settings, on clips of the same size",
        )
    if ours.low <= theirs.high and theirs.low <= ours.high:
        return "even"
    return "better" if ours.loss(ours.value) < theirs.loss(theirs.value) else "worse"


def estimate(
    metric: Metric,
    real: Features,
    made: Features,
    *,
    other: Features | None = None,
    halves: bool = False,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """A set metric with its interval and floor.

    Args:
        metric: Of real and made features [N, D].
        real: Of the reference clips.
        made: Of the clips that are judged; as many of each side are compared as there are of both.
        other: Of further real clips, for the floor; without them `real` is split in two.
        halves: Take the interval from random halves of both sides, whose spread is that of the whole (half-sampling,
            McCarthy 1969), instead of the bootstrap (Efron 1979): for metrics of nearest neighbors, which a sample
            drawn twice would fool.
        within: The values that there can be.

    """
    rng = np.random.default_rng(0)
    n = min(len(real), len(made))
    real_n, made = real[rng.permutation(len(real))[:n]], made[:n]
    value = metric(real_n, made)
    size = n // 2 if halves else n
    draws = []
    for _ in range(_DRAWS):
        ours, theirs = (
            (rng.permutation(n)[:size], rng.permutation(n)[:size])
            if halves
            else (rng.integers(n, size=n), rng.integers(n, size=n))
        )
        draws.append(metric(real_n[ours], made[theirs]))
    # These draws are biased, as small sets are; their spread is what is wanted, about the value.
    low, high = np.quantile(np.array(draws) - np.mean(draws), [0.05, 0.95])
    floor, floor_n = _floor(metric, real_n, real, other, rng)
    return Estimate(
        value=value,
        low=max(within[0], value + min(float(low), 0.0)),
        high=min(within[1], value + max(float(high), 0.0)),
        floor=floor,
        n=n,
        floor_n=floor_n,
    )


def _floor(
    metric: Metric, real_n: Features, real: Features, other: Features | None, rng: np.random.Generator
) -> tuple[float, int]:
    """Mean over ten draws, at the same count where there are enough other real clips."""
    if other is not None and len(other) >= len(real_n):
        drawn = [metric(real_n, other[rng.permutation(len(other))[: len(real_n)]]) for _ in range(_FLOORS)]
        return float(np.mean(drawn)), len(real_n)
    half = min(len(real_n), len(real) // 2)
    drawn = []
    for _ in range(_FLOORS):
        order = rng.permutation(len(real))
        drawn.append(metric(real[order[:half]], real[order[half : 2 * half]]))
    return float(np.mean(drawn)), half


def mean_of(made: NDArray[np.float64], real: NDArray[np.float64]) -> Estimate | None:
    """The mean of values of single clips [N], NaN where one has none, beside that of real clips; None without values.

    The interval is the bootstrap's over clips.
    """
    made, real = made[~np.isnan(made)], real[~np.isnan(real)]
    if not len(made) or not len(real):
        return None
    draws = made[np.random.default_rng(0).integers(len(made), size=(_DRAWS, len(made)))].mean(1)
    low, high = np.quantile(draws, [0.05, 0.95])
    value = float(made.mean())
    return Estimate(value=value, low=min(value, float(low)), high=max(value, float(high)), floor=float(real.mean()),
                    n=len(made), floor_n=len(real))  # fmt: skip
