"""Laws of what sample videos will show."""

from collections import Counter

import numpy as np
import pytest

from data_prep.samples.plan import FRAME_RATE, SIDE_PX, film
from vidgen_core import scene

FILMS = [film(3, number) for number in range(96)]
SHOTS = [shot for planned in FILMS for shot in planned.shots]
CLIP_FRAMES = 27  # nine frames at 8 a second


def of(manner):
    return [shot for shot in SHOTS if shot.description.manner == manner]


def test_a_plan_is_a_function_of_seed_and_number():
    again, other = film(3, 7), film(4, 7)
    assert [shot.caption for shot in again.shots] == [shot.caption for shot in FILMS[7].shots]
    assert all(np.array_equal(a.centers, b.centers) for a, b in zip(again.shots, FILMS[7].shots, strict=True))
    assert [shot.ground_seed for shot in other.shots] != [shot.ground_seed for shot in again.shots]


def test_shots_follow_each_other_without_a_gap_other_than_their_dissolve():
    for planned in FILMS:
        assert planned.shots[0].start == 0
        for before, after in zip(planned.shots, planned.shots[1:], strict=False):
            assert after.start - before.stop == after.lead_in == before.lead_out
        joints = len(planned.cuts) + len(planned.dissolves)
        assert joints == len(planned.shots) - 1


def test_every_shot_holds_a_clip_with_a_margin_and_none_three():
    frames = [shot.stop - shot.start for shot in SHOTS]
    assert min(frames) >= CLIP_FRAMES + 2
    assert max(frames) < 3 * CLIP_FRAMES
    assert sum(length >= 2 * CLIP_FRAMES + 2 for length in frames) > len(SHOTS) / 8


def test_a_shape_never_leaves_the_picture():
    for shot in SHOTS:
        left, right, up, down = (reach * shot.radius_px for reach in scene.extent(shot.description.shape))
        x, y = shot.centers.T
        assert min((x - left).min(), (y - up).min()) >= -1e-9
        assert max((x + right).max(), (y + down).max()) <= SIDE_PX + 1e-9


def test_what_moves_goes_straight_the_way_it_says_and_as_fast_as_it_says():
    for shot in of("moves"):
        steps = np.diff(shot.centers, axis=0)
        assert np.ptp(steps, axis=0).max() < 1e-9
        pace = np.hypot(*steps[0]) * float(FRAME_RATE) / SIDE_PX
        low, high = scene.SPEEDS[shot.description.speed]
        assert low - 1e-9 <= pace <= high + 1e-9
        assert np.allclose(steps[0] / np.hypot(*steps[0]), scene.DIRECTIONS[shot.description.direction])


def test_what_bounces_keeps_to_its_axis_and_turns_only_at_the_walls():
    turned = 0
    for shot in of("bounces"):
        axis = int(np.flatnonzero(scene.BOUNCES[shot.description.direction])[0])
        low, high = (reach * shot.radius_px for reach in scene.extent(shot.description.shape)[2 * axis : 2 * axis + 2])
        assert np.ptp(shot.centers[:, 1 - axis]) == 0
        along = shot.centers[:, axis]
        steps = np.diff(along)
        pace = np.abs(steps).max()
        for turn in np.flatnonzero(np.diff(np.sign(steps))) + 1:
            turned += 1
            wall = min(along[turn] - low, SIDE_PX - high - along[turn])
            assert wall <= pace
    assert turned > len(of("bounces")) / 2


def test_what_stands_still_does():
    assert all(np.ptp(shot.centers, axis=0).max() == 0 for shot in of("stands still"))


def test_small_and_large_are_as_told():
    for shot in SHOTS:
        low, high = scene.RADII[shot.description.size]
        assert low <= shot.radius_px / SIDE_PX <= high


def test_a_caption_never_contradicts_the_truth_and_often_leaves_out_size_and_speed():
    told = [scene.parse(shot.caption) for shot in SHOTS]
    for shot, said in zip(SHOTS, told, strict=True):
        kept = {name: value for name, value in said.model_dump().items() if value is not None}
        assert kept.items() <= shot.description.model_dump().items()
    plain = sum(said.size is None and said.speed is None for said in told)
    assert 0.25 < plain / len(SHOTS) < 0.6


def test_the_world_is_shown_evenly():
    for attribute, kinds in (("color", 6), ("shape", 3)):
        counts = Counter(getattr(shot.description, attribute) for shot in SHOTS)
        assert len(counts) == kinds
        assert max(counts.values()) < 1.6 * min(counts.values())
    shares = {manner: len(of(manner)) / len(SHOTS) for manner in ("stands still", "bounces")}
    assert shares["stands still"] == pytest.approx(0.08, abs=0.04)
    assert shares["bounces"] == pytest.approx(0.12, abs=0.05)
    assert len({shot.ground for shot in SHOTS}) == 6


def test_each_block_of_files_has_its_bars_dissolves_webm_and_one_broken_file():
    for block in (FILMS[:32], FILMS[32:64], FILMS[64:]):
        assert Counter(planned.bars for planned in block) == {None: 29, "letterbox": 2, "pillarbox": 1}
        assert sum(bool(planned.dissolves) for planned in block) == 10
        assert sum(planned.name.endswith(".webm") for planned in block) in (4, 5)
        assert sum(planned.broken is not None for planned in block) == 1
    assert {planned.broken for planned in FILMS} == {None, "no index", "empty", "garbage"}
