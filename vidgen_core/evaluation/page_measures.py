"""Measurements as rows of the page: titles, aligned numbers, and a little drawing of the interval and the floor."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vidgen_core.evaluation import wording
from vidgen_core.evaluation.figures import decimals_of, number
from vidgen_core.evaluation.measurements import Measurement

__all__ = ["distances", "strip"]

_STRIP_PX = 200  # width of the little drawing of an interval
_WAYS = {"lower": "lower is better", "higher": "higher is better", "real": "nearer to real is better"}


def distances(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """A row each."""
    return [_row(one) for one in measurements]


def strip(marks: Mapping[str, float | None], low: float, high: float) -> dict[str, float]:
    """Places of figures on a line from `low` to `high`, in the strip's pixels; what was not measured has none."""
    span = high - low or 1.0
    return {
        name: round(4 + (min(high, max(low, value)) - low) / span * (_STRIP_PX - 8), 1)
        for name, value in marks.items()
        if value is not None and math.isfinite(value)
    }


def _row(one: Measurement) -> dict[str, Any]:
    title, meaning = wording.DISTANCES.get(one.kind, (wording.named(one.kind), "Between generated and real clips."))
    marks = {"value": one.value, "low": one.low, "high": one.high, "wanted": one.floor}
    known = [value for value in marks.values() if math.isfinite(value)]
    decimals = decimals_of(known)
    numbers = {"value": one.value, "low": one.low, "high": one.high, "floor": one.floor}
    texts = {name: number(value, decimals) for name, value in numbers.items()}
    marked = strip(marks, min([0.0, *known]), 1.05 * max([0.0, *known]))
    return {**texts, "title": title, "meaning": meaning, "name": one.name, "protocol": one.protocol, "n": one.n,
            "floor_n": one.floor_n, "way": _WAYS[one.better], "strip": marked}  # fmt: skip
