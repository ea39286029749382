"""Laws of set metrics: closed forms, pieces against the whole, invariances, and how wrong small sets are."""

import numpy as np
import pytest
import torch
from scipy import linalg

from vidgen_core.evaluation import moments
from vidgen_core.evaluation.distances import frechet, mmd
from vidgen_core.evaluation.inception import inception_score
from vidgen_core.evaluation.moments import Moments, frechet_of
from vidgen_core.evaluation.neighbors import coverage, density, memorization, precision, recall

SETS = (precision, recall, density, coverage)


def rng(seed=0):
    return np.random.default_rng(seed)


def normal(count, dim=6, shift=0.0, scale=1.0, seed=0):
    return rng(seed).normal(shift, scale, size=(count, dim))


def test_moments_of_pieces_are_those_of_the_whole(monkeypatch):
    features = normal(101) @ normal(6, seed=1)
    cuts = [features[:1], features[1:40], features[40:43], features[43:]]
    whole = Moments.of(features)
    monkeypatch.setattr(moments, "_PIECE", 17)
    for pieces in (cuts, cuts[::-1], [features]):
        merged = Moments.of_pieces(map(Moments.of, pieces))
        assert merged.count == 101
        assert np.allclose(merged.mean, whole.mean, atol=1e-12)
        assert np.allclose(merged.factor.T @ merged.factor, whole.factor.T @ whole.factor, atol=1e-9)
    assert np.allclose(whole.root().T @ whole.root(), np.cov(features.T))


@pytest.mark.parametrize("count", [4, 80])
def test_frechet_of_workers_pieces_is_that_of_the_whole_where_covariances_are_singular_too(count):
    a, b = normal(count, 24), normal(count + 1, 24, shift=0.4, seed=2)
    workers = [Moments.of_pieces([Moments.of(some[::2]), Moments.of(some[1::2])]) for some in (a, b)]
    for freedom in (0, 1):
        assert frechet_of(*workers, freedom=freedom) == pytest.approx(frechet(a, b, freedom=freedom), rel=1e-9)
    assert frechet_of(workers[0], Moments.of(a)) == pytest.approx(0, abs=1e-9)


def test_frechet_is_that_of_other_roots():
    a, b = normal(80) @ normal(6, seed=1), normal(90, shift=0.4, scale=1.7, seed=2)
    ours = frechet(a, b)
    covariances = np.cov(a.T), np.cov(b.T)
    shift = np.sum((a.mean(0) - b.mean(0)) ** 2)
    by_scipy = linalg.sqrtm(covariances[0] @ covariances[1]).real
    by_torch = torch.linalg.eigvals(torch.from_numpy(covariances[0] @ covariances[1])).sqrt().real.sum().item()
    traces = np.trace(covariances[0] + covariances[1])
    assert ours == pytest.approx(shift + traces - 2 * np.trace(by_scipy), rel=1e-6)
    assert ours == pytest.approx(shift + traces - 2 * by_torch, rel=1e-6)


def test_frechet_of_shifted_and_scaled_sets_is_the_closed_form():
    a = normal(500)
    shifted, scaled = a + 2.0, 3.0 * a
    assert frechet(a, shifted) == pytest.approx(4 * 6, rel=1e-9)
    trace, square = np.trace(np.cov(a.T)), np.sum(a.mean(0) ** 2)
    assert frechet(a, scaled) == pytest.approx(4 * (trace + square), rel=1e-9)


# Mean Frechet distance over dimensions, and mean unbiased MMD with its deviation, of two samples of one Gaussian.
@pytest.mark.parametrize("count,biased,spread", [(16, 1.34, 0.069), (64, 0.55, 0.022), (256, 0.135, 0.005)])
def test_how_wrong_small_sets_are(count, biased, spread):
    repeats = 24
    pairs = [(normal(count, 64, seed=2 * r), normal(count, 64, seed=2 * r + 1)) for r in range(repeats)]
    assert np.mean([frechet(a, b) / 64 for a, b in pairs]) == pytest.approx(biased, rel=0.05)
    kernels = [mmd(a, b) for a, b in pairs]
    assert abs(np.mean(kernels)) < 3 * spread / np.sqrt(repeats) + 0.002
    assert np.std(kernels) == pytest.approx(spread, rel=0.5)


# The same for other widths and counts, mean of the Frechet distance alone; half a unit of its last digit is allowed.
@pytest.mark.slow
@pytest.mark.parametrize(
    "dim,biased",
    [
        (400, {16: 1.80, 64: 1.37, 256: 0.75, 1024: 0.198, 2048: 0.099}),
        (64, {1024: 0.034, 2048: 0.017}),
        (32, {16: 1.04, 64: 0.29, 256: 0.072, 1024: 0.018, 2048: 0.009}),
    ],
)
def test_how_wrong_sets_of_other_sizes_are(dim, biased):
    for count, expected in biased.items():
        repeats = max(8, 512 // count)
        pairs = [(normal(count, dim, seed=2 * r), normal(count, dim, seed=2 * r + 1)) for r in range(repeats)]
        assert np.mean([frechet(a, b) / dim for a, b in pairs]) == pytest.approx(expected, abs=0.05 * expected + 0.0005)
        assert abs(np.mean([mmd(a, b) for a, b in pairs])) < 0.1 / count**0.5


@pytest.mark.parametrize("metric", SETS)
def test_equal_distributions_are_near_one_and_strangers_at_zero(metric):
    real = normal(400)
    assert metric(real, normal(400, seed=3)) == pytest.approx(1.0, abs=0.12)
    assert metric(real, normal(400, shift=50.0, seed=3)) == 0


@pytest.mark.parametrize("metric", SETS)
def test_the_order_of_samples_and_the_unit_of_features_do_not_matter(metric):
    real, made = normal(120), normal(100, shift=0.5, seed=4)
    value = metric(real, made)
    assert metric(real[rng().permutation(120)], made[rng(1).permutation(100)]) == pytest.approx(value)
    assert metric(7 * real, 7 * made) == pytest.approx(value)


def test_a_generator_of_one_mode_is_precise_and_covers_little():
    real = np.concatenate([normal(200), normal(200, shift=30.0, seed=5)])
    made = normal(400, seed=6)
    assert precision(real, made) > 0.9
    assert recall(real, made) < 0.6
    assert coverage(real, made) < 0.6


def test_an_outlier_fools_precision_but_not_density():
    real = np.concatenate([normal(200), np.full((1, 6), 40.0)])
    strangers = normal(100, shift=20.0, scale=0.1, seed=7)
    assert precision(real, strangers) == 1.0
    assert density(real, strangers) < 0.3


def test_copies_of_training_clips_are_told_from_new_ones():
    trained, held_out = normal(300), normal(100, seed=8)
    assert memorization(trained, held_out, normal(100, seed=9)) == pytest.approx(1.0, abs=0.15)
    assert memorization(trained, held_out, trained[:100] + 0.001 * held_out) < 0.01


def test_the_inception_score_goes_from_one_to_the_number_of_classes():
    sure = 50.0 * np.eye(5)
    assert inception_score(sure) == pytest.approx(5.0)
    assert inception_score(np.repeat(sure[:1], 5, axis=0)) == pytest.approx(1.0)
    assert inception_score(np.zeros((7, 5))) == pytest.approx(1.0)
    logits = normal(50, 5)
    assert inception_score(logits) == pytest.approx(inception_score(logits + 3.0))
