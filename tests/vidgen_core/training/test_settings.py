import math

import pytest

from vidgen_core.errors import VidgenError
from vidgen_core.training.schedule import rate


def test_a_batch_that_workers_cannot_share_names_the_next_that_they_can(cases):
    with pytest.raises(VidgenError, match="Set batch to 12"):
        cases.settings(batch=10, workers=2, accumulate=2)


def test_who_computes_the_pieces_is_no_part_of_a_runs_identity(cases):
    plain = cases.settings(batch=8, workers=4)
    for same in ({"workers": 2, "accumulate": 2}, {"workers": 4, "keep": 9, "log_every": 1, "device": "cuda"}):
        assert cases.settings(batch=8, **same).identity() == plain.identity()
    for other in ({"workers": 2}, {"workers": 4, "seed": 1}, {"workers": 4, "learning_rate": 0.5}):
        assert cases.settings(batch=8, **other).identity() != plain.identity()


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_the_rate_rises_to_its_peak_and_ends_where_the_schedule_says(cases, schedule):
    settings = cases.settings(steps=1000, warmup_steps=100, learning_rate=0.5, schedule=schedule)
    rates = [rate(settings, step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.005)
    assert max(rates) == rates[99] == 0.5
    assert rates[:100] == sorted(rates[:100])
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[-1] == pytest.approx(0.5 if schedule == "constant" else 0, abs=1e-3)
    assert rates[550] == pytest.approx({"constant": 0.5, "linear": 0.25, "cosine": 0.25}[schedule])


def test_a_run_shorter_than_its_warmup_has_finite_rates(cases):
    settings = cases.settings(steps=3, warmup_steps=10)
    assert all(math.isfinite(rate(settings, step)) for step in range(3))
    assert math.isfinite(rate(cases.settings(steps=3, warmup_steps=0), 0))
