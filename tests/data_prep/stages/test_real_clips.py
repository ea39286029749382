"""What each score must say of real clips whose damage, text and motion are known."""

import json

import numpy as np
import pytest

# The score that should see it, and whether more of it is worse.
SEEN_BY = {
    "blur": ("sharpness", False),
    "upscaled": ("sharpness", False),
    "blocky": ("blockiness", True),
    "noise": ("noise", True),
    "dark": ("brightness", False),
    "frozen": ("motion", False),
    "letterbox": ("keep_area", False),
}


@pytest.fixture(scope="module")
def truth(shared_data):
    lines = (shared_data / "captions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def name(row):
    return row["file"].removeprefix("videos/").removesuffix(".mp4")


def test_each_degraded_clip_ranks_below_its_clean_one_by_the_score_that_should_see_it(truth, scored):
    degraded = [row for row in truth if row.get("quality") not in (None, "clean")]
    clean = {row["group"]: name(row) for row in truth if row.get("quality") == "clean"}
    assert {row["quality"] for row in degraded} == set(SEEN_BY)
    for row in degraded:
        column, more_is_worse = SEEN_BY[row["quality"]]
        bad, good = scored(name(row))[column], scored(clean[row["group"]])[column]
        assert (bad > 1.2 * good) if more_is_worse else (bad < 0.8 * good), (row["quality"], column, bad, good)


def test_what_is_not_damaged_keeps_its_score(scored):
    clean = scored("quality_clean")
    for kind in ("frozen", "letterbox"):
        assert scored(f"quality_{kind}")["sharpness"] == pytest.approx(clean["sharpness"], rel=0.05)
    for kind in ("blur", "upscaled", "frozen", "letterbox"):
        assert scored(f"quality_{kind}")["blockiness"] == pytest.approx(clean["blockiness"], rel=0.15)
        assert scored(f"quality_{kind}")["noise"] < 1


def test_text_laid_over_a_clip_is_found_and_clips_without_text_have_none(truth, scored):
    for row in truth:
        if "overlay" in row:
            assert (scored(name(row))["text_area"] > 0.005) == (row["overlay"] != "none"), row["file"]
        elif "quality" in row or "motion_px_per_frame" in row:
            assert scored(name(row))["text_area"] == 0, row["file"]


def test_flow_is_the_known_motion_and_it_is_the_cameras(truth, scored):
    moved = [row for row in truth if "motion_px_per_frame" in row]
    known = np.array([np.hypot(*row["motion_px_per_frame"]) * row["fps"] for row in moved])
    assert len(known) >= 5
    for column in ("flow_px_s", "camera_px_s"):
        seen = np.array([scored(name(row))[column] for row in moved])
        assert np.corrcoef(known, seen)[0, 1] >= 0.99
        assert seen == pytest.approx(known, rel=0.25, abs=1)
    objects = np.array([scored(name(row))["object_px_s"] for row in moved])
    assert (objects[known > 30] < 0.4 * known[known > 30]).all()
