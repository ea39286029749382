"""Laws of the sample world's words and geometry."""

import itertools
from collections import Counter

import numpy as np
import pytest

from vidgen_core import scene
from vidgen_core.scene import Description

SIZES = [None, *scene.RADII]
SPEEDS = [None, *scene.SPEEDS]
WAYS = [
    *(("moves", way, speed) for way in scene.DIRECTIONS for speed in SPEEDS),
    *(("bounces", way, speed) for way in scene.BOUNCES for speed in SPEEDS),
    ("stands still", None, None),
]
EVERYTHING = [
    Description(color=color, shape=shape, manner=manner, direction=way, size=size, speed=speed)
    for color, shape, size, (manner, way, speed) in itertools.product(scene.COLORS, scene.SHAPES, SIZES, WAYS)
]


def test_every_description_is_read_back_from_its_caption_and_no_two_share_one():
    captions = [described.caption() for described in EVERYTHING]
    assert [scene.parse(caption) for caption in captions] == EVERYTHING
    assert len(set(captions)) == len(captions)


def test_case_spaces_and_a_final_period_do_not_matter():
    told = scene.parse("  A Small red  SQUARE moves left quickly. ")
    assert told == Description(
        color="red", shape="square", manner="moves", direction="left", size="small", speed="quick"
    )


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a dog runs over a field",
        "a red square",
        "a pink square moves left",
        "a red square moves left and right",
        "a red square bounces left",
        "a red square stands still slowly",
        "a red small square moves left",
        "a red square moves left. a blue circle moves up",
        "a red square moves left " * 1000,
    ],
)
def test_a_sentence_of_another_world_is_not_read(caption):
    assert scene.parse(caption) is None


def test_leaving_size_and_speed_unsaid_gives_the_plain_caption():
    full = Description(color="red", shape="square", manner="moves", direction="left", size="small", speed="slow")
    assert full.caption() == "a small red square moves left slowly"
    assert full.unsaid(size=True, speed=True).caption() == "a red square moves left"
    assert full.unsaid(size=False, speed=False) == full


def test_seventy_two_prompts_name_every_combination_once():
    told = [scene.parse(prompt) for prompt in scene.prompts(72, seed=5)]
    combinations = {(one.color, one.shape, one.direction) for one in told}
    assert len(combinations) == 72
    assert {one.manner for one in told} == {"moves"}


@pytest.mark.parametrize("seed", range(5))
def test_the_beginning_of_the_prompts_is_balanced_too(seed):
    told = [scene.parse(prompt) for prompt in scene.prompts(64, seed=seed)]
    for attribute, kinds in (("color", 6), ("shape", 3), ("direction", 4)):
        counts = Counter(getattr(one, attribute) for one in told)
        assert len(counts) == kinds
        assert max(counts.values()) - min(counts.values()) <= 4


def test_prompts_are_a_function_of_the_seed_and_longer_lists_begin_like_shorter_ones():
    assert scene.prompts(100, seed=1)[:30] == scene.prompts(30, seed=1)
    assert scene.prompts(30, seed=1) != scene.prompts(30, seed=2)
    assert scene.prompts(0, seed=1) == []


@pytest.mark.parametrize("shape", scene.SHAPES)
@pytest.mark.parametrize("radius_px", [4.5, 6.3, 20.0])
def test_coverage_adds_up_to_the_area_wherever_the_shape_stands(shape, radius_px):
    for x, y in np.random.default_rng(0).uniform(-0.5, 0.5, (10, 2)) + 32:
        covered = scene.coverage(shape, (x, y), radius_px, 64, 64)
        assert covered.dtype == np.float32
        assert covered.min() >= 0
        assert covered.max() == 1
        assert covered.sum() == pytest.approx(scene.area(shape) * radius_px**2, rel=0.01)


@pytest.mark.parametrize("shape", scene.SHAPES)
def test_the_center_is_the_center_of_mass_to_a_twentieth_of_a_pixel(shape):
    y, x = np.indices((64, 64)) + 0.5
    for center in np.random.default_rng(1).uniform(24, 40, (10, 2)):
        covered = scene.coverage(shape, tuple(center), 6.0, 64, 64)
        mass = np.array([(covered * x).sum(), (covered * y).sum()]) / covered.sum()
        assert np.abs(mass - center).max() < 0.05


@pytest.mark.parametrize("shape", scene.SHAPES)
def test_coverage_equals_a_fine_count_of_points_inside(shape):
    fine = 16
    coarse = scene.coverage(shape, (13.3, 15.8), 5.2, 32, 32)
    points = scene.coverage(shape, (13.3 * fine, 15.8 * fine), 5.2 * fine, 32 * fine, 32 * fine) > 0.5
    counted = points.reshape(32, fine, 32, fine).mean((1, 3))
    assert np.abs(coarse - counted).max() < 0.2
    assert np.abs(coarse - counted).mean() < 0.002


@pytest.mark.parametrize("shape", scene.SHAPES)
def test_a_shape_reaches_exactly_as_far_as_its_extent_says(shape):
    left, right, up, down = (reach * 10 for reach in scene.extent(shape))
    touched = np.argwhere(scene.coverage(shape, (32, 32), 10, 64, 64) > 0)
    rows, columns = touched[:, 0], touched[:, 1]
    assert columns.min() == pytest.approx(32 - left, abs=1)
    assert columns.max() + 1 == pytest.approx(32 + right, abs=1)
    assert rows.min() == pytest.approx(32 - up, abs=1.5)
    assert rows.max() + 1 == pytest.approx(32 + down, abs=1)


def test_half_a_shape_outside_the_picture_is_half_a_shape():
    whole = scene.coverage("circle", (16, 16), 6, 32, 32).sum()
    assert scene.coverage("circle", (0, 16), 6, 32, 32).sum() == pytest.approx(whole / 2, rel=0.01)


def test_areas_of_the_shapes_differ_less_than_small_and_large_do():
    areas = [scene.area(shape) for shape in scene.SHAPES]
    smallest_large, largest_small = scene.RADII["large"][0], scene.RADII["small"][1]
    assert max(areas) / min(areas) < (smallest_large / largest_small) ** 2
