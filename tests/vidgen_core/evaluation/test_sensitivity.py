"""On real clips every harm is seen by the metrics that docs/metrics.md names for it."""

import pytest

from tests.bench.bench_metrics import table

LOOK, MOTION = "random-conv64", "random-conv64-motion"
SEEN_BY = {
    "blur": [f"rfd@{LOOK}", f"rfd@{MOTION}", "temporal_spectrum_distance"],
    "noise": [f"rfd@{MOTION}", "warping_error", "flicker"],
    "flicker": [f"rfd@{MOTION}", f"coverage@{MOTION}", "warping_error", "flicker"],
    "shuffle": [f"coverage@{MOTION}", "warping_error", "covered_share", "temporal_spectrum_distance"],
    "freeze": [f"coverage@{MOTION}", "dynamic_degree", "motion_energy_distance"],
    "speed-up": ["warping_error", "covered_share"],
    "collapse": [f"rfd@{LOOK}", f"recall@{LOOK}", f"coverage@{LOOK}", f"diversity@{LOOK}"],
    "copies": [f"nearest_ratio@{LOOK}", f"nearest_ratio@{MOTION}"],
}


@pytest.mark.slow
def test_every_harm_is_seen_and_a_clip_that_stands_still_wins_nothing(shared_data):
    rows = table(shared_data)
    missed = [(harm, name) for harm, names in SEEN_BY.items() for name in names if rows[name][harm] != "worse"]
    assert missed == []
    assert {rows[name]["freeze"] for name in ("flicker", "warping_error", "covered_share")} == {"silent"}
