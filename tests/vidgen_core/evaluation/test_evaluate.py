"""One evaluation measures what it can, says why it did not measure the rest, and tells good generators from bad."""

import numpy as np
import pytest

from vidgen_core.evaluation.evaluate import Evaluation, evaluate
from vidgen_core.evaluation.set_metrics import Material
from vidgen_core.evaluation.settings import EvaluationSettings

SETTINGS = EvaluationSettings(samples=32, truth_prompts=4)


def clips(count, seed):
    """Bright squares that move, each elsewhere."""
    rng = np.random.default_rng(seed)
    made = np.full((count, 9, 32, 32, 3), 60, np.uint8)
    for clip in made:
        x, y, step, color = rng.integers(2, 10), rng.integers(2, 20), rng.integers(1, 3), rng.integers(120, 255, 3)
        for time, frame in enumerate(clip):
            frame[y : y + 8, x + step * time : x + step * time + 8] = color
    return made


class Maker:
    def __init__(self, made):
        self.made = made

    def videos(self, prompts, *, seed=0):
        return self.made[np.arange(len(prompts)) % len(self.made)]


def judged(made, captions=("a film",), **changes):
    fields = {"held_out": clips(40, 1), "captions": [*captions] * 40, "trained": clips(60, 2), "frame_rate": "8"}
    material = Material(**{**fields, **changes})
    return evaluate(Maker(made), material, SETTINGS, identity=("m", "d"), held_out={"loss": 1.0})


@pytest.fixture(scope="module")
def good():
    return judged(clips(64, 3))


def test_everything_is_measured_with_interval_floor_and_protocol(good):
    result, shown = good
    kinds = {one.kind for one in result.distances}
    assert kinds == {"rfd", "rmmd", "precision", "recall", "density", "coverage", "diversity", "nearest_ratio"}
    assert {"warping_error", "flicker", "dynamic_degree", "frame_consistency"} <= {one.kind for one in result.measures}
    for one in (*result.distances, *result.measures):
        assert one.low <= one.value <= one.high
        assert one.name.endswith(one.protocol)
        assert one.n and one.floor_n
    names = [one.name for one in (*result.distances, *result.measures)]
    assert len(set(names)) == len(names)
    assert Evaluation.model_validate_json(result.model_dump_json()) == result
    assert shown.nearest.shape == shown.nearness.shape == (32,)
    assert [draw.purpose for draw in shown.draws] == ["distances"]


def test_one_clip_many_times_and_copies_of_training_clips_are_told_from_a_good_generator(good):
    def of(result):
        return {one.kind: one for one in result.distances if "motion" not in one.name}

    best, one_mode = of(good[0]), of(judged(clips(1, 3))[0])
    copied, shown = judged(clips(60, 2))
    assert one_mode["rfd"].low > best["rfd"].high
    assert one_mode["coverage"].high < best["coverage"].low
    assert one_mode["diversity"].value == pytest.approx(0, abs=1e-6)
    assert of(copied)["nearest_ratio"].value == pytest.approx(0, abs=1e-5)
    assert best["nearest_ratio"].value == pytest.approx(1, abs=0.35)
    assert shown.nearest.tolist() == list(range(32))


def test_a_few_clips_leave_a_reason_and_no_number(good):
    few = clips(5, 1)
    result, _ = judged(clips(64, 3), held_out=few, captions=["a film"], trained=few[:0], kept_apart=False)
    assert result.distances == ()
    assert "8 held-out clips" in result.not_run["distances"]
    assert "ref=all" in result.measures[0].name


def test_failures_are_named_for_each_clip_of_the_sample_world():
    result, shown = judged(np.zeros((4, 9, 32, 32, 3), np.uint8), captions=["a red square moves left"])
    assert result.truth.color.right == 0
    assert [draw.purpose for draw in shown.draws] == ["distances", "truth"]
    assert all({"one_shape", "color", "shape"} <= set(wrong) for wrong in shown.mistakes)
