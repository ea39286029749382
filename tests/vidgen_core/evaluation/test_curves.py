"""Charts whose points lie where the numbers say."""

import math

import pytest

from vidgen_core.evaluation.curves import HEIGHT, WIDTH, charts

HISTORY = [
    *({"step": step, "train/loss/generator": 10.0 ** (-step / 50)} for step in range(0, 101, 10)),
    {"step": 50, "held_out/loss": 0.5},
    {"step": 100, "held_out/loss": 0.2},
]


def points(curve):
    return [tuple(map(float, point.split(","))) for point in curve.points.split()]


def test_a_power_law_is_a_straight_line_and_all_points_are_inside():
    (chart,) = charts("generator", HISTORY)
    assert [curve.name for curve in chart.curves] == ["training", "held out"]
    line = points(chart.curves[0])
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(line, line[1:], strict=False)]
    assert slopes == pytest.approx([slopes[0]] * len(slopes), abs=0.02)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for curve in chart.curves for x, y in points(curve))
    assert chart.curves[1].last == 0.2


def test_ticks_are_at_the_height_of_their_values():
    (chart,) = charts("generator", HISTORY)
    heights = {float(label): y for y, label in chart.rows}
    first, last = points(chart.curves[0])[0][1], points(chart.curves[0])[-1][1]
    for value, y in heights.items():
        assert y == pytest.approx(first + (last - first) * math.log10(1 / value) / 2, abs=0.2)
    assert {1.0, 0.1, 0.01} <= heights.keys()


def test_each_player_has_its_chart_and_what_is_no_number_is_left_out():
    history = [
        {"step": 1, "train/loss/generator": 1.0, "train/loss/critic": math.nan},
        {"step": 2, "train/loss/generator": math.inf, "train/loss/critic": 2.0},
        {"step": 3, "train/loss/generator": 0.5, "train/loss/critic": 2.0},
    ]
    drawn = charts("gan", history)
    assert [chart.title for chart in drawn] == ["gan, generator", "gan, critic"]
    assert [len(points(chart.curves[0])) for chart in drawn] == [2, 2]
    assert charts("gan", history[:1]) == []
