"""Laws of measures of single clips: still clips win nothing, known motions, and each harm moves what it should."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import ndimage

from vidgen_core import discovery
from vidgen_core.evaluation.clip_measures import consistency, drift, motion_measures, spectra, still_measures
from vidgen_core.evaluation.extractors.random_conv import RandomConv
from vidgen_core.evaluation.motion_view import MotionView, warped
from vidgen_core.evaluation.set_metrics import Material

MEASURES = {name: discovery.load("vidgen_core.evaluation.measures", name)
            for name in discovery.names("vidgen_core.evaluation.measures")}  # fmt: skip


def texture(seed=0, side=96):
    noise = np.random.default_rng(seed).normal(size=(side, side, 3))
    smooth = ndimage.gaussian_filter(noise, (2, 2, 0))
    return (128 + 45 * smooth / smooth.std()).clip(0, 255)


def panning(step_px=2, frames=9, side=48, seed=0):
    """A textured ground that moves evenly to the left."""
    ground = texture(seed)
    return np.stack([ground[:side, step_px * t : step_px * t + side] for t in range(frames)]).astype(np.uint8)


def passing(frames=9, seed=0):
    """A textured square that passes over a ground that stands still."""
    ground, square = texture(seed, 48), texture(seed + 100, 16)
    clip = np.repeat(ground[None], frames, axis=0)
    for t in range(frames):
        clip[t, 16:32, 2 * t : 2 * t + 16] = square
    return clip.astype(np.uint8)


def view(clip, rate=8):
    return MotionView(clip, Fraction(rate))


def value(name, clip):
    return MEASURES[name].of_clip(view(clip))


def test_the_flow_of_a_pan_is_the_pan_and_back():
    seen = view(panning(2))
    middle = (slice(None), slice(12, 36), slice(12, 36))
    assert np.median(seen.ahead[middle], axis=(0, 1, 2)) == pytest.approx([-2, 0], abs=0.1)
    assert np.median(seen.back[middle], axis=(0, 1, 2)) == pytest.approx([2, 0], abs=0.1)
    assert seen.seen_in_both[middle].mean() > 0.95
    assert seen.seen_in_both[:, :, :2].mean() < 0.5  # what leaves the picture is not seen again


def test_a_warped_picture_is_the_next_one():
    clip = panning(3)[..., 0].astype(np.float32)
    flow = np.zeros((48, 48, 2), np.float32)
    flow[..., 0] = -3
    assert np.allclose(warped(clip[1], flow)[:, 3:], clip[0][:, 3:])


def test_a_clip_that_stands_still_wins_nothing_where_motion_is_asked_for():
    still = np.repeat(panning()[:1], 9, axis=0)
    assert value("temporal_flickering", still) == 1.0  # as VBench has it
    assert value("dynamic_degree", still) == value("motion_energy", still) == 0.0
    assert [value(name, still) for name in ("flicker", "warping_error", "covered_share")] == [None] * 3


def test_temporal_flickering_is_vbenchs_loop_over_pairs_of_frames():
    clip = passing().astype(np.float32)
    pairs = [np.mean(np.abs(a - b)) for a, b in zip(clip[:-1], clip[1:], strict=True)]
    assert value("temporal_flickering", passing()) == pytest.approx((255 - np.mean(pairs)) / 255, rel=1e-6)


def test_a_light_that_flickers_is_seen_where_nothing_moves():
    rng = np.random.default_rng(0)
    lit = (passing() + rng.normal(0, 6, (9, 1, 1, 1))).clip(0, 255).astype(np.uint8)
    assert value("flicker", lit) > value("flicker", passing()) + 3


def test_what_flow_explains_is_no_error_and_shuffled_frames_are():
    clip = panning()
    shuffled = clip[[0, 5, 2, 7, 4, 1, 6, 3, 8]]
    assert value("warping_error", clip) < 3
    assert value("warping_error", shuffled) > 2 * value("warping_error", clip)
    assert value("covered_share", shuffled) > value("covered_share", clip)


def test_faster_motion_has_more_energy_and_only_motion_is_dynamic():
    assert value("motion_energy", panning(3)) > 1.5 * value("motion_energy", panning(1))
    threshold = 6 * 48 / 256
    assert value("dynamic_degree", panning(2)) == 1.0 > value("dynamic_degree", panning(1)) == 0.0
    assert view(panning(2)).threshold_px == threshold
    # At 24 frames a second every third frame counts.
    assert MEASURES["dynamic_degree"].of_clip(view(panning(1), 24)) == 1.0


def test_consistency_is_the_loop_that_vbench_writes():
    space, clip = RandomConv(), passing()
    features = space.stills(clip)
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    said = [(max(0, units[t] @ units[t - 1]) + max(0, units[t] @ units[0])) / 2 for t in range(1, len(units))]
    assert consistency(space, clip[None])[0] == pytest.approx(np.mean(said))
    assert consistency(space, np.repeat(clip[None, :1], 5, axis=1))[0] == pytest.approx(1.0)


def test_drift_is_nothing_for_a_loop_and_grows_as_a_clip_fades():
    loop = np.concatenate([panning(frames=16)] * 2)[None]
    fading = (loop * np.linspace(1, 0.3, 32)[None, :, None, None, None]).astype(np.uint8)
    space = RandomConv()
    assert drift(space, loop)[0] == 0
    assert drift(space, fading)[0] > 0.05
    found = still_measures(space, Material(loop, ["x"], loop[:0], "8"), fading)
    assert [one.kind for one in found] == ["frame_consistency", "drift"]


def test_a_spectrum_finds_the_frequency_of_a_light():
    time = np.arange(16)
    light = 128 + 40 * np.cos(2 * np.pi * 3 * time / 16)
    clip = np.broadcast_to(light[:, None, None, None], (16, 16, 16, 3)).astype(np.uint8)
    assert spectra([view(clip)])[0].argmax() == 3 - 1  # zero is left out


def test_measures_of_a_set_stand_beside_those_of_real_clips():
    real = np.stack([passing(seed=s) for s in range(8)])
    material = Material(real, ["x"] * 8, real[:0], "8")
    found, not_run = motion_measures(material, real)
    assert {one.kind for one in found} >= set(MEASURES) | {"motion_energy_distance", "temporal_spectrum_distance"}
    assert not_run == {}
    assert all(one.value == pytest.approx(one.floor) for one in found if one.kind in MEASURES)
    still, not_run = motion_measures(material, np.repeat(real[:, :1], 9, axis=1))
    assert set(not_run) == {"flicker", "warping_error", "covered_share"}
    tiny, not_run = motion_measures(Material(real[:, :, :8, :8], ["x"] * 8, real[:0], "8"), real[:, :, :8, :8])
    assert tiny == [] and "measures of motion" in not_run
