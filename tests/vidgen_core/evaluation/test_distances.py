import numpy as np
import pytest
from scipy import linalg, ndimage

from vidgen_core.evaluation.distances import frechet, mmd
from vidgen_core.evaluation.extractors.random_conv import RandomConv
from vidgen_core.evaluation.measurements import estimate

RNG = np.random.default_rng(0)


def test_identical_sets_are_at_zero_and_distance_is_symmetric():
    a, b = RNG.normal(size=(200, 8)), RNG.normal(1.0, 2.0, size=(300, 8))
    assert frechet(a, a) == pytest.approx(0.0, abs=1e-9)
    assert frechet(a, b) == pytest.approx(frechet(b, a))
    assert mmd(a, b) == pytest.approx(mmd(b, a))


def test_frechet_equals_the_textbook_formula_with_scipys_matrix_root():
    a, b = RNG.normal(size=(100, 6)) @ RNG.normal(size=(6, 6)), RNG.normal(0.3, 1.5, size=(120, 6))
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(cov_a @ cov_b).real
    textbook = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a + cov_b - 2 * root)
    assert frechet(a, b) == pytest.approx(textbook, rel=1e-6)


def test_frechet_of_gaussians_is_the_closed_form():
    a, b = RNG.normal(0, 1, size=(200_000, 2)), RNG.normal(1, 3, size=(200_000, 2))
    assert frechet(a, b) == pytest.approx(2 * (1 + (3 - 1) ** 2), rel=0.02)


def test_frechet_holds_where_there_are_fewer_samples_than_dimensions():
    a = RNG.normal(size=(10, 30))
    assert frechet(a, a) == pytest.approx(0.0, abs=1e-9)


def test_mmd_is_unbiased_around_zero_for_equal_distributions():
    values = [mmd(RNG.normal(size=(40, 4)), RNG.normal(size=(40, 4))) for _ in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_an_interval_holds_its_value_and_the_floor_is_small():
    real, made = RNG.normal(size=(100, 8)), RNG.normal(1.0, 1.0, size=(100, 8))
    found = estimate(frechet, real, made)
    assert found.low <= found.value <= found.high
    assert found.floor < found.low


def clips(count=48):
    """Bright squares that move, each elsewhere."""
    made = np.full((count, 9, 32, 32, 3), 60, np.uint8)
    for place in range(count):
        x, y, step = RNG.integers(2, 10), RNG.integers(2, 20), RNG.integers(1, 3)
        for frame in range(9):
            left = x + step * frame
            made[place, frame, y : y + 8, left : left + 8] = RNG.integers(120, 255, 3)
    return made


@pytest.mark.parametrize("harm", ["blur", "noise", "freeze", "collapse"])
def test_harm_moves_the_distance_up(harm):
    real, other = clips(), clips()
    harmed = {
        "blur": lambda c: ndimage.gaussian_filter(c, (0, 0, 1.5, 1.5, 0)),
        "noise": lambda c: np.clip(c + RNG.normal(0, 25, c.shape), 0, 255).astype(np.uint8),
        "freeze": lambda c: np.repeat(c[:, :1], 9, axis=1),
        "collapse": lambda c: np.repeat(c[:1], len(c), axis=0),
    }[harm](other)
    clean = frechet(RandomConv().features(real), RandomConv().features(other))
    assert frechet(RandomConv().features(real), RandomConv().features(harmed)) > 1.3 * clean
