"""Laws of measurements: intervals, floors, names with protocols, and what may be compared."""

import numpy as np
import pytest

from vidgen_core.errors import VidgenError
from vidgen_core.evaluation.distances import frechet, mmd, wasserstein
from vidgen_core.evaluation.measurements import Estimate, compared, estimate, mean_of
from vidgen_core.evaluation.neighbors import diversity, nearest, precision
from vidgen_core.evaluation.protocols import Compared, measurement

CLIPS = Compared(frames=9, height=32, width=32, frame_rate="8", n=100, reference="held_out")
FOUND = Estimate(value=1.0, low=0.9, high=1.1, floor=0.5, n=100, floor_n=100)


def rng(seed=0):
    return np.random.default_rng(seed)


def named(found=FOUND, clips=CLIPS, kind="rfd", better="lower", **protocol):
    return measurement(kind, "random-conv64", found, clips, protocol=protocol, better=better)


@pytest.mark.parametrize("metric,halves", [(frechet, False), (mmd, False), (precision, True), (diversity, True)])
def test_an_interval_holds_the_value_and_nine_in_ten_of_the_values_of_fresh_clips(metric, halves):
    real = rng().normal(size=(200, 4))
    found = estimate(metric, real, rng(1).normal(0.3, 1, size=(200, 4)), halves=halves)
    assert found.low <= found.value <= found.high
    fresh = [metric(rng(s).normal(size=(200, 4)), rng(s + 50).normal(0.3, 1, (200, 4))) for s in range(2, 32)]
    assert np.std(fresh) == pytest.approx((found.high - found.low) / 3.29, rel=0.6)


def test_the_floor_is_of_other_real_clips_at_the_same_count_where_there_are_enough():
    real, made = rng().normal(size=(60, 16)), rng(1).normal(size=(80, 16))
    alone, beside = (estimate(frechet, real, made, other=o) for o in (None, rng(2).normal(size=(300, 16))))
    assert (alone.n, alone.floor_n) == (60, 30)
    assert (beside.n, beside.floor_n) == (60, 60)
    assert beside.floor == pytest.approx(beside.value, rel=0.3)  # equal distributions, equal counts
    assert alone.floor > 1.3 * beside.floor  # half as many clips, about twice the bias


def test_means_leave_out_clips_that_say_nothing():
    made, real = np.array([1.0, np.nan, 3.0]), np.array([2.0, 2.0])
    found = mean_of(made, real)
    assert (found.value, found.floor, found.n, found.floor_n) == (2.0, 2.0, 2, 2)
    assert mean_of(np.array([np.nan]), real) is None


def test_a_name_tells_the_protocol_and_whatever_changes_it_changes_the_hash():
    one = named(version=1)
    for part in ("rfd@random-conv64", "9f", "32x32", "n100", "ref=held_out", one.protocol):
        assert part in one.name
    changes = [named(version=2), named(kind="rmmd", version=1)]
    changes += [
        named(clips=CLIPS.model_copy(update=change), version=1)
        for change in ({"n": 99}, {"reference": "train"}, {"frames": 16}, {"frame_rate": "24"}, {"width": 64})
    ]
    assert len({one.protocol, *(other.protocol for other in changes)}) == len(changes) + 1
    assert named(version=1).name == one.name


def test_intervals_decide_and_hashes_that_differ_are_refused():
    def at(value, better="lower"):
        return named(Estimate(value=value, low=value - 0.1, high=value + 0.1, floor=1.0, n=9, floor_n=9), better=better)

    assert compared(at(1.0), at(1.1)) == "even"
    assert compared(at(1.0), at(2.0)) == "better"
    assert compared(at(1.0, "higher"), at(2.0, "higher")) == "worse"
    assert compared(at(0.5, "real"), at(2.0, "real")) == "better"
    with pytest.raises(VidgenError, match="cannot be compared"):
        compared(at(1.0), named(clips=CLIPS.model_copy(update={"n": 99})))


def test_wasserstein_of_shifted_sets_is_the_shift_and_of_permuted_ones_zero():
    a = rng().normal(size=(50, 3))
    assert wasserstein(a, a + 2.5) == pytest.approx(2.5)
    assert wasserstein(a, a[::-1]) == 0


def test_diversity_is_one_for_equal_sets_and_zero_for_one_clip_many_times():
    a = rng().normal(size=(40, 5))
    assert diversity(a, a) == pytest.approx(1.0)
    assert diversity(a, 3 * a) == pytest.approx(3.0)
    assert diversity(a, np.repeat(a[:1], 40, axis=0)) == pytest.approx(0.0, abs=1e-6)


def test_the_nearest_training_clip_of_a_copy_is_its_original_and_very_near():
    trained, held_out = rng().normal(size=(50, 8)), rng(1).normal(size=(30, 8))
    made = np.concatenate([trained[[7, 21]] + 1e-4, rng(2).normal(size=(20, 8))])
    places, ratios = nearest(trained, held_out, made)
    assert places[:2].tolist() == [7, 21]
    assert (ratios[:2] < 0.01).all()
    assert np.median(ratios[2:]) == pytest.approx(1.0, abs=0.2)


def test_more_freedom_is_a_factor_of_the_covariances_alone():
    a, b = rng().normal(size=(30, 3)), rng(1).normal(size=(30, 3))
    shift = np.sum((a.mean(0) - b.mean(0)) ** 2)
    assert frechet(a, b, freedom=0) - shift == pytest.approx((frechet(a, b) - shift) * 29 / 30)
