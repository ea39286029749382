"""Laws of known frames."""

import pytest
import torch

from vidgen_core.chance import Chance
from vidgen_core.known import hold, resampling, shown_frames
from vidgen_core.paths import RectifiedFlow, VarianceExploding
from vidgen_core.predictions import read
from vidgen_core.samplers import ddpm

PATH = RectifiedFlow()
X, KNOWN, NOISE = torch.randn(3, 2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
T = torch.tensor([0.6, 0.6])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_samples_is_shown_some_frames_but_never_all(share):
    shown = shown_frames(Chance(0), torch.arange(2000), 5, share=share)
    assert shown.any(1).float().mean().item() == pytest.approx(share, abs=0.03)
    assert not shown.all(1).any()


def test_images_between_ends_and_continuations_are_all_among_what_is_shown():
    seen = {tuple(row) for row in shown_frames(Chance(0), torch.arange(2000), 4, share=1.0).tolist()}
    yes, no = True, False
    assert {(yes, no, no, no), (yes, no, no, yes), (yes, yes, yes, no), (no, no, no, yes), (no, yes, no, no)} <= seen


def test_what_is_shown_belongs_to_the_sample_not_to_its_batch():
    together = shown_frames(Chance(0), torch.arange(8), 6, share=0.5)
    assert torch.equal(together[3:5], shown_frames(Chance(0), torch.arange(3, 5), 6, share=0.5))


def test_a_clip_of_one_frame_is_shown_nothing():
    assert not shown_frames(Chance(0), torch.arange(50), 1, share=1.0).any()


def seen_by(mask, frame_times, x=X, t=T):
    seen = {}

    def network(x, t, text):
        seen.update(x=x, t=t)
        return x

    hold(network, KNOWN, mask, path=PATH, noise=NOISE, frame_times=frame_times)(x, t, None)
    return seen


def first_frame():
    mask = torch.zeros(2, 1, 5, 4, 4, dtype=torch.bool)
    mask[:, :, 0] = True
    return mask


def test_a_whole_known_frame_is_seen_clean_at_time_zero():
    seen = seen_by(first_frame(), frame_times=True)
    assert torch.equal(seen["x"][:, :, 0], KNOWN[:, :, 0])
    assert torch.equal(seen["x"][:, :, 1:], X[:, :, 1:])
    assert seen["t"].tolist() == [[0, *[pytest.approx(0.6)] * 4]] * 2


def test_without_frame_times_it_is_seen_as_noisy_as_the_rest():
    seen = seen_by(first_frame(), frame_times=False)
    assert torch.allclose(seen["x"][:, :, 0], PATH.mix(KNOWN, NOISE, torch.tensor(0.6))[:, :, 0])
    assert torch.equal(seen["t"], T)


def test_a_known_part_of_a_frame_is_seen_as_noisy_as_the_rest():
    mask = torch.zeros(2, 1, 5, 4, 4, dtype=torch.bool)
    mask[:, :, 2, :2] = True
    seen = seen_by(mask, frame_times=True)
    noisy = PATH.mix(KNOWN, NOISE, torch.tensor(0.6))
    assert torch.allclose(seen["x"], torch.where(mask, noisy, X))
    assert torch.allclose(seen["t"], T[:, None].expand(2, 5))


def test_a_batch_that_holds_the_samples_twice_sees_the_known_frames_twice():
    once, twice = seen_by(first_frame(), True), seen_by(first_frame(), True, torch.cat([X, X]), torch.cat([T, T]))
    assert torch.equal(twice["x"], torch.cat([once["x"]] * 2))
    assert torch.equal(twice["t"], torch.cat([once["t"]] * 2))


@pytest.mark.parametrize("path", [PATH, VarianceExploding()], ids=["flow", "edm"])
def test_going_back_and_forth_brings_the_rest_to_what_is_known(path):
    """Two standard normal numbers of correlation 0.9, the first known to be 1: the other's mean is 0.9."""
    count, rest = 4000, torch.Generator().manual_seed(0)
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    mask = torch.tensor([True, False]).view(1, 1, 2, 1, 1).expand(count, 1, 2, 1, 1)
    known = torch.ones(count, 1, 2, 1, 1)
    noise = torch.randn(count, 1, 2, 1, 1, generator=rest)

    def network(x, t, text):
        alpha, sigma = path.alpha(t[0]), path.sigma(t[0])
        gain = alpha * covariance @ torch.linalg.inv(alpha**2 * covariance + sigma**2 * torch.eye(2))
        return torch.einsum("ij,bcjhw->bcihw", gain, x)

    held = hold(network, known, mask, path=path, noise=noise, frame_times=False)

    def denoise(x, t):
        t = t.to(x)
        return read("data", held(x, t.expand(len(x)), None), path=path, x=x, t=t)

    means = []
    for rounds in (1, 10):
        integrate = resampling(ddpm.integrate, path=path, rounds=rounds)
        draw = lambda step: torch.randn(noise.shape, generator=rest)  # noqa: E731
        made = integrate(denoise, path.prior_std * noise, path.grid(20), draw)
        means.append(made[:, 0, 1].mean().item())
    assert means[0] < 0.8
    assert means[1] == pytest.approx(0.9, abs=0.06)


def test_one_round_is_the_sampler_itself_for_samplers_without_memory():
    denoise = lambda x, t: read("data", 0.5 * x, path=PATH, x=x, t=t.to(x))  # noqa: E731
    draw = lambda step: NOISE * (step + 1)  # noqa: E731
    once = resampling(ddpm.integrate, path=PATH, rounds=1)(denoise, X, PATH.grid(1), lambda step: draw(0))
    assert torch.equal(once, ddpm.integrate(denoise, X, PATH.grid(1), draw))
