"""Laws of the drawn frames."""

import numpy as np
import pytest

from data_prep.samples.draw import frames
from data_prep.samples.plan import SIDE_PX, film

FILMS = [film(0, number) for number in range(64)]
DISSOLVED = next(planned for planned in FILMS if planned.dissolves and planned.bars is None)


def saturation(picture):
    return picture.max(-1).astype(int) - picture.min(-1)


@pytest.mark.parametrize("bars", ["letterbox", "pillarbox"])
def test_bars_are_black_and_the_picture_inside_is_not(bars):
    planned = next(planned for planned in FILMS if planned.bars == bars)
    drawn = np.stack(list(frames(planned)))
    x, y, width, height = planned.picture
    inside = drawn[:, y : y + height, x : x + width].copy()
    drawn[:, y : y + height, x : x + width] = 0
    assert drawn.max() == 0
    assert inside.min(axis=-1).mean() > 20
    assert (width, height) == (SIDE_PX, SIDE_PX)


def test_the_shape_is_the_only_saturated_thing_and_stands_where_the_plan_says():
    drawn = list(frames(DISSOLVED))
    assert len(drawn) == DISSOLVED.frames
    y, x = np.indices((SIDE_PX, SIDE_PX)) + 0.5
    for shot in DISSOLVED.shots:
        for place in (shot.start, (shot.start + shot.stop) // 2, shot.stop - 1):
            colored = saturation(drawn[place]) > 60
            center = shot.centers[place - shot.start + shot.lead_in]
            assert np.abs([x[colored].mean() - center[0], y[colored].mean() - center[1]]).max() < 0.7
            outside = np.hypot(x - center[0], y - center[1]) > 1.8 * shot.radius_px
            assert saturation(drawn[place])[outside].max() < 20


def test_a_dissolve_goes_from_one_shot_to_the_next_in_even_steps():
    drawn = np.stack(list(frames(DISSOLVED))).astype(float)
    ((start, stop),) = DISSOLVED.dissolves
    corner = drawn[start - 1 : stop + 1, :3, :3].mean((1, 2, 3))
    steps = np.diff(corner)
    assert np.abs(steps - steps.mean()).max() < 1.0
    assert abs(steps.sum()) > 10


def test_within_a_shot_only_the_shape_changes():
    drawn = list(frames(DISSOLVED))
    shot = DISSOLVED.shots[0]
    changed = (drawn[shot.start] != drawn[shot.start + 1]).any(-1).mean()
    assert changed < 0.2
