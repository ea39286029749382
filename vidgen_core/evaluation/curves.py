"""Loss curves as scalable vector graphics: logarithmic values over steps, with ticks that can be read off."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Chart", "Curve", "charts"]

WIDTH, HEIGHT = 460, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 26
_MANTISSAS = (1, 2, 5)


@dataclass(frozen=True)
class Curve:
    """One line: its name, the points of its polyline in the drawing's units, its last value."""

    name: str
    points: str
    last: float


@dataclass(frozen=True)
class Chart:
    """Curves of one training over a common pair of axes.

    Attributes:
        title: What is drawn.
        curves: The lines; the first is the training loss where there is one.
        rows: Horizontal grid lines (y, label).
        columns: Vertical ticks (x, label).

    """

    title: str
    curves: tuple[Curve, ...]
    rows: tuple[tuple[float, str], ...]
    columns: tuple[tuple[float, str], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM


def charts(name: str, history: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """A chart for each training loss in the logged rows, the held-out loss beside it; values that are no positive
    numbers are left out.
    """  # noqa: D205
    keys = [key for key in dict.fromkeys(key for row in history for key in row) if key.startswith("train/loss/")]
    drawn = []
    for key in keys:
        lines = {"training": _points(history, key), "held out": _points(history, "held_out/loss")}
        lines = {label: points for label, points in lines.items() if len(points) > 1}
        if lines:
            player = key.removeprefix("train/loss/")
            drawn.append(_chart(name if len(keys) == 1 else f"{name}, {player}", lines))
    return drawn


def _points(history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    rows = [(float(row["step"]), float(row[key])) for row in history if key in row]
    return [(step, value) for step, value in rows if math.isfinite(value) and value > 0]


def _chart(title: str, lines: Mapping[str, list[tuple[float, float]]]) -> Chart:
    steps = [step for points in lines.values() for step, _ in points]
    values = [value for points in lines.values() for _, value in points]
    low, high = min(values), max(values)
    if high < 1.05 * low:
        low, high = low / 1.1, high * 1.1

    def across(step: float) -> float:
        return _LEFT + (step - min(steps)) / max(max(steps) - min(steps), 1e-9) * (WIDTH - _LEFT - _RIGHT)

    def down(value: float) -> float:
        return _TOP + math.log(high / value) / math.log(high / low) * (HEIGHT - _TOP - _BOTTOM)

    curves = tuple(
        Curve(label, " ".join(f"{across(step):.1f},{down(value):.1f}" for step, value in points), points[-1][1])
        for label, points in lines.items()
    )
    rows = tuple((round(down(value), 1), f"{value:g}") for value in _log_ticks(low, high))
    columns = tuple((round(across(step), 1), f"{step:,.0f}") for step in np.linspace(min(steps), max(steps), 5))
    return Chart(title, curves, rows, columns)


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between the ends, thinned to powers of ten where those are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [mantissa * 10.0**power for power in powers for mantissa in _MANTISSAS]
    inside = [tick for tick in ticks if low <= tick <= high]
    if len(inside) > 7:
        inside = [tick for tick in inside if round(math.log10(tick), 6).is_integer()]
    return inside or [low, high]
