"""Laws of noise paths, of the schedules behind them and of readings of a network's output."""

import pytest
import torch

from vidgen_core import betas
from vidgen_core.paths import (
    RectifiedFlow,
    Trigonometric,
    VarianceExploding,
    VariancePreserving,
    expand_times,
    shift_times,
)
from vidgen_core.predictions import read, target

PATHS = {
    "straight": RectifiedFlow(),
    "circle": Trigonometric(),
    "exploding": VarianceExploding(),
    "linear": VariancePreserving(betas.linear()),
    "cosine": VariancePreserving(betas.cosine()),
    "zero_terminal": VariancePreserving(betas.zero_terminal(betas.scaled_linear())),
}
PRESERVING = ("circle", "linear", "cosine", "zero_terminal")


@pytest.fixture(params=PATHS, name="path")
def _path(request):
    return PATHS[request.param]


def test_rates_are_the_derivatives_of_the_weights_by_the_clock(path):
    clock = torch.tensor([0.0123, 0.25037, 0.5004, 0.77777, 0.9896], dtype=torch.float64)
    t, before, after = (path.time(clock + shift) for shift in (0.0, -1e-7, 1e-7))
    for weight, rate in ((path.alpha, path.alpha_rate), (path.sigma, path.sigma_rate)):
        slope = (weight(after) / path.scale(after) - weight(before) / path.scale(before)) / 2e-7
        assert torch.allclose(slope, rate(t), rtol=1e-5, atol=1e-6)


def test_clock_and_time_undo_each_other_and_the_clock_only_rises(path):
    t = torch.linspace(0, 1, 997, dtype=torch.float64)
    clock = path.clock(t)
    assert clock[0] == 0
    assert clock[-1] <= 1
    assert (clock.diff() > 0).all()
    assert torch.allclose(path.time(clock), t, atol=1e-9)
    assert torch.allclose(path.clock(path.time(clock)), clock, atol=1e-12)


def test_data_stand_at_the_start_and_the_ratio_of_data_to_noise_only_falls(path):
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    assert path.alpha(t)[0] == 1
    assert path.sigma(t)[0] == 0
    ratio = path.alpha(t)[1:] / path.sigma(t)[1:]
    assert (ratio.diff() < 0).all()


@pytest.mark.parametrize("name", PRESERVING)
def test_preserving_paths_keep_the_variance(name):
    t = torch.linspace(0, 1, 777, dtype=torch.float64)
    assert torch.allclose(PATHS[name].alpha(t) ** 2 + PATHS[name].sigma(t) ** 2, torch.ones_like(t))


@pytest.mark.parametrize(
    "schedule,left",
    [
        (betas.scaled_linear(), 0.068265),
        (betas.linear(), 0.006353),
        (betas.linear(first=0.00085, last=0.012), 0.039736),
        (betas.cosine(), 4.93e-5),
    ],
)
def test_what_is_left_of_the_data_at_the_last_level_is_as_published(schedule, left):
    last = torch.ones((), dtype=torch.float64)
    assert VariancePreserving(schedule).alpha(last).item() == pytest.approx(left, rel=1e-3)


def test_a_zero_terminal_schedule_leaves_nothing_and_keeps_the_first_level():
    before, after = (
        torch.cumprod(1 - b, 0) for b in (betas.scaled_linear(), betas.zero_terminal(betas.scaled_linear()))
    )
    assert after[-1] == 0
    assert after[0].item() == pytest.approx(before[0].item(), abs=1e-12)
    assert before[0].item() == pytest.approx(0.99915, abs=1e-5)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine"])
def test_a_shifted_schedule_has_its_signal_to_noise_ratio_divided(name):
    made = getattr(betas, name)()
    ratios = [kept / (1 - kept) for kept in (torch.cumprod(1 - b, 0) for b in (made, betas.shifted(made, 9.0)))]
    assert torch.allclose(ratios[0] / ratios[1], torch.full_like(ratios[0], 9.0), rtol=1e-6)
    assert torch.allclose(betas.shifted(betas.shifted(made, 9.0), 1 / 9.0), made, atol=1e-9)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine"])
def test_schedules_and_their_rescaling_equal_those_of_diffusers(name):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    theirs_name = {"cosine": "squaredcos_cap_v2"}.get(name, name)
    ends = {} if name == "cosine" else {"beta_start": 0.00085, "beta_end": 0.012}
    ours = betas.cosine() if name == "cosine" else getattr(betas, name)(1000, 0.00085, 0.012)
    for zero in (False, True):
        theirs = diffusers.DDIMScheduler(beta_schedule=theirs_name, rescale_betas_zero_snr=zero, **ends).alphas_cumprod
        kept = torch.cumprod(1 - (betas.zero_terminal(ours) if zero else ours), 0)
        assert torch.allclose(kept.float(), theirs, atol=2e-6)


def test_shifts_compose_by_multiplication_and_undo_each_other():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.allclose(shift_times(shift_times(t, 2.0), 3.0), shift_times(t, 6.0))
    assert torch.allclose(shift_times(shift_times(t, 5.0), 0.2), t)


@pytest.mark.parametrize("kind", ["data", "noise", "v", "velocity"])
def test_every_kind_of_output_says_the_same(path, kind):
    if kind == "v" and path not in [PATHS[name] for name in PRESERVING]:
        pytest.skip("v is of paths that keep the variance")
    data, noise = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.tensor([0.001, 0.01, 0.25, 0.5, 0.9, 0.99], dtype=torch.float64)[:, None]
    x = path.mix(data, noise, t)
    seen = read(kind, target(kind, path=path, data=data, noise=noise, t=t), path=path, x=x, t=t)
    assert torch.allclose(seen.data, data, atol=1e-6)
    assert torch.allclose(seen.noise, noise, atol=1e-6)
    assert torch.allclose(seen.velocity, path.velocity(data, noise, t), rtol=1e-5, atol=1e-6)
    assert torch.allclose(seen.score * path.sigma(t), -noise, atol=1e-6)


@pytest.mark.parametrize(
    "kind,other", [("v", lambda p, t: p.sigma(t)), ("noise", lambda p, t: p.sigma(t) / p.alpha(t))]
)
def test_errors_of_one_kind_are_those_of_the_data_over_a_weight(kind, other):
    path = PATHS["cosine"]
    data, noise, wrong = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0.1, 0.9, 8, dtype=torch.float64)
    x = path.mix(data, noise, t)
    right = target(kind, path=path, data=data, noise=noise, t=t)
    seen = read(kind, right + wrong, path=path, x=x, t=t)
    assert torch.allclose(wrong**2, (seen.data - data) ** 2 / other(path, t) ** 2)


def test_times_of_frames_and_of_samples_broadcast_against_a_video():
    video = torch.zeros(2, 3, 4, 5, 6)
    assert (video + expand_times(torch.ones(2), video)).shape == video.shape
    assert expand_times(torch.arange(8.0).reshape(2, 4), video)[1, 0, 2].item() == 6
