import os

import pytest
import torch

from vidgen_core.interfaces import Batch, Work
from vidgen_core.training import loop, speed
from vidgen_core.training.accelerators import ACCELERATORS
from vidgen_core.training.fit import fit
from vidgen_core.training.forecast import forecast
from vidgen_core.training.journal import History
from vidgen_core.training.place import Place
from vidgen_core.training.speed import Done, Meter, Rate
from vidgen_core.training.system import System
from vidgen_core.training.updates import ratios, remember

HERE = Place()


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is moved on; a core and a half of this process work all the time."""
    now = [0.0]
    monkeypatch.setattr("vidgen_core.training.speed.time.monotonic", lambda: now[0])
    monkeypatch.setattr("vidgen_core.training.speed.time.process_time", lambda: 1.5 * now[0])
    return now


def test_the_rate_is_of_the_last_half_minute(clock):
    rate = Rate()
    for number in range(200):
        clock[0] += 1.0 if number < 100 else 0.25
        rate.add(0.1, Done(8, 1e9, 100))
    figures = rate.figures()
    assert figures["steps_per_s"] == pytest.approx(4.0, rel=0.15)
    assert figures["samples_per_s"] == pytest.approx(figures["steps_per_s"] * 8)
    assert figures["wait_share"] == pytest.approx(0.4, rel=0.15)
    assert figures["step_cpu_s"] == pytest.approx(1.5 / figures["steps_per_s"])


SMALL, LARGE = (2, 3, 4, 4), (2, 1, 6, 8)


def piece(shape, count):
    return Batch(torch.empty(count, *shape), None, torch.arange(count))


@pytest.mark.parametrize("world", [1, 2])
def test_the_share_of_the_peak_is_operations_done_over_operations_possible(cases, clock, monkeypatch, world):
    """Steps are of two shapes, a budget bounds the batch of one, and of two workers one may be lost."""
    h100 = ACCELERATORS["h100"]
    monkeypatch.setattr(speed, "here", lambda place: h100)
    settings = cases.settings(batch=8, workers=2, precision="bf16")
    work = {SMALL: Work(flops=1e12, tokens=100), LARGE: Work(flops=3e12, tokens=200)}
    meter = Meter(work, lambda: None, SMALL, settings, Place(0, world))
    for number in range(10):
        clock[0] += 0.5
        own = piece(LARGE, 1) if number % 2 else piece(SMALL, 4)
        meter.add(0.1, [own] * (2 // world))
    figures = meter.figures()
    assert figures["samples_per_s"] == pytest.approx((8 + 2) / 1)
    assert figures["tokens_per_s"] == pytest.approx((8 * 100 + 2 * 200) / 1)
    assert figures["tflops"] == pytest.approx(8 + 2 * 3)
    assert figures["step_cpu_s"] == pytest.approx(world * 1.5 * 0.5)
    assert figures["mfu"] == pytest.approx(14e12 / (world * 989.4e12))


def test_after_twenty_steps_of_its_shape_the_prediction_stands_beside_the_median(cases, clock, data, tmp_path):
    job = cases.job(data, tmp_path / "work")
    plan = forecast(job.build, job.space.shape, (3, 6), job.settings, [ACCELERATORS["h100"]]).on[0]
    meter = Meter({SMALL: Work(1.0, 1), LARGE: Work(1.0, 1)}, lambda: plan, SMALL, job.settings, HERE)
    for number in range(39):
        assert meter.comparison() == {}
        clock[0] += 100.0 if number == 0 or number % 2 else 0.25
        meter.add(0.0, [piece(LARGE if number % 2 else SMALL, 4)])
    told = {"predicted_step_s": plan.step_s, "measured_step_s": 0.25, "measured_step_cpu_s": 0.375}
    assert meter.comparison() == told


def test_a_run_tells_once_what_was_predicted_and_what_came_and_always_how_fast_it_is(data, cases, tmp_path):
    job = cases.job(data, tmp_path / "work", steps=30)
    fit(job, place=HERE)
    rows = [row for row in History.read(job.work_dir / "history.jsonl") if "train/loss/toy" in row]
    compared = [row["step"] for row in rows if "speed/predicted_step_s" in row]
    assert compared == [21]
    assert all(row["speed/mfu"] > 0 and row["speed/tokens_per_s"] > 0 for row in rows)
    assert all(row["system/peak_memory_gb"] >= 0.9 * row["system/memory_gb"] > 0.01 for row in rows)
    assert all(0 < row["train/update_ratio/toy"] < 1 for row in rows)


@pytest.mark.parametrize("name", ["toy", "duel"])
def test_an_update_is_what_the_step_added_over_what_was_there(data, cases, tmp_path, name):
    job = cases.job(data, tmp_path / "work", name=name)
    state = loop.State(job.build(), job.settings)
    before = remember(state.players)
    old = {name: torch.cat([v.detach().flatten() for v in one.weights.values()]) for name, one in state.players.items()}
    with torch.no_grad():
        for weight in state.learner.parameters():
            weight.add_(torch.randn_like(weight))
    for player, ratio in ratios(before, state.players, HERE).items():
        new = torch.cat([value.detach().flatten() for value in state.players[player].weights.values()])
        assert ratio == pytest.approx(((new - old[player]).norm() / old[player].norm()).item(), rel=1e-5)
    assert ratios(remember(state.players), state.players, HERE) == dict.fromkeys(state.players, 0.0)


def test_processors_and_memory_are_those_of_this_process():
    system = System(HERE)
    ballast = torch.ones(64 * 2**20 // 4)
    while system.figures()["cpus"] < 0.2:
        torch.randn(200, 200) @ torch.randn(200, 200)
    figures = system.figures()
    assert figures["memory_gb"] > ballast.nbytes / 1e9
    assert 0 <= figures["load_share"] * os.cpu_count() < 1000
