"""Laws of where clips lie in a shot, and in which shape."""

from fractions import Fraction

import numpy as np
import pytest

from data_prep.placing import Lit, clip_id, clip_places, shape_of, suitable
from data_prep.settings import ClipShape, DataSettings

FURTHER = (
    {"frames": 9, "height": 32, "width": 56},
    {"frames": 17, "height": 32, "width": 32},
    {"frames": 17, "height": 64, "width": 112},
    {"frames": 9, "height": 56, "width": 32},
)
SETTINGS = DataSettings(frames=9, height=32, width=32, shapes=FURTHER)
RATE = 24


def name(made):
    return made.frames, made.height, made.width


def lit(width, height):
    return Lit(Fraction(width), Fraction(height))


def places(frames, picture, settings=SETTINGS, first=0):
    times_s = np.arange(first + frames + 5) / RATE
    return clip_places(times_s, first, first + frames, picture, settings.each_shape())


@pytest.mark.parametrize(
    ("picture", "aspect"), [((1920, 1080), 1.75), ((1440, 1440), 1.0), ((720, 1280), 32 / 56), ((4, 3), 1.75),
                            ((5, 4), 1.0), ((1920, 800), 1.75), ((1500, 1000), 1.75)],
)  # fmt: skip
def test_the_aspect_is_the_nearest_by_what_is_cut_away(picture, aspect):
    width, height = picture
    best = suitable(SETTINGS.each_shape(), lit(width, height))[0]
    assert best.width / best.height == pytest.approx(aspect)

    def left(made):
        wanted = made.width / made.height
        return min(width, height * wanted) * min(height, width / wanted)

    assert left(best) == pytest.approx(max(map(left, SETTINGS.each_shape())))


def test_a_shot_is_cut_as_long_as_what_is_left_of_it_holds():
    # 17 frames at 8 a second take 48 intervals of a source at 24; a clip more begins one interval of its own later.
    found = places(49 + 3 + 24, lit(100, 100))
    assert [(start, name(made)) for start, made in found] == [(0, (17, 32, 32)), (51, (9, 32, 32))]
    assert [made.frames for _, made in places(49, lit(100, 100))] == [17]
    assert [made.frames for _, made in places(48, lit(100, 100))] == [9]
    assert places(24, lit(100, 100)) == []


def test_all_clips_of_a_shot_are_of_one_aspect_and_follow_each_other():
    for frames in range(0, 400, 23):
        found = places(frames, lit(100, 50), first=7)
        assert len({made.width / made.height for _, made in found}) <= 1
        ends = [start + 3 * made.frames for start, made in found]
        assert [start for start, _ in found[1:]] == ends[:-1]


def test_a_shot_too_short_for_its_aspect_goes_to_the_nearest_that_it_holds():
    long = DataSettings(frames=9, shapes=({"frames": 33, "height": 32, "width": 56},))
    assert [name(made) for _, made in places(30, lit(160, 90), long)] == [(9, 32, 32)]
    assert [name(made) for _, made in places(97, lit(160, 90), long)] == [(33, 32, 56)]


def test_of_two_sizes_the_larger_that_needs_no_enlarging():
    sizes = DataSettings(height=32, width=32, shapes=({"frames": 9, "height": 64, "width": 64},))
    assert [suitable(sizes.each_shape(), lit(side, side))[0].height for side in (16, 40, 63, 64, 1000)] == [
        32, 32, 32, 64, 64,
    ]  # fmt: skip


def test_one_shape_takes_every_picture_where_it_always_did():
    one = DataSettings()
    for picture in (lit(1, 9), lit(9, 1)):
        assert [start for start, _ in places(200, picture, one)] == list(range(0, 200 - 24, 27))


def test_a_clips_id_tells_its_shape():
    shapes = SETTINGS.each_shape()
    assert len({name(made) for made in shapes}) == 5
    for made in shapes:
        span = {"source_id": "s", "start_pts": 3, "stop_pts": 99, "clip_id": clip_id("s", 3, 99, made)}
        assert shape_of(span, shapes) == made
        assert shape_of(span, DataSettings().each_shape()) == DataSettings()


def test_the_order_of_shapes_and_one_named_twice_say_nothing():
    assert DataSettings(shapes=(*FURTHER[::-1], FURTHER[0])) == SETTINGS
    assert len(DataSettings(shapes=({"frames": 9, "height": 32, "width": 32},)).each_shape()) == 1
    assert [ClipShape(**one) for one in FURTHER] == sorted(SETTINGS.shapes, key=lambda one: FURTHER.index(dict(one)))


def test_without_shapes_the_settings_are_written_as_they_always_were():
    assert "shapes" not in DataSettings().model_dump(mode="json")
    assert DataSettings.model_validate_json(SETTINGS.model_dump_json()) == SETTINGS
