"""Laws of whitening by running statistics."""

import pytest
import torch

from vidgen_core.layers.whitening import Whitening


def trained(shrinkage, x, steps=400):
    layer = Whitening(x.shape[1], shrinkage=shrinkage, momentum=0.05).train()
    for _ in range(steps):
        assert layer(x) is x
    return layer.eval()


@pytest.fixture(scope="module")
def features():
    draws = torch.Generator().manual_seed(0)
    return torch.randn(500, 6, generator=draws) @ torch.randn(6, 6, generator=draws) * 3 + 5


def test_nothing_changes_before_training(features):
    assert torch.allclose(Whitening(6, shrinkage=0.1).eval()(features), features, atol=1e-4)


def test_whitened_features_have_the_covariance_of_the_identity(features):
    assert torch.allclose(trained(1e-6, features)(features).T.cov(correction=0), torch.eye(6), atol=1e-2)


def test_drawn_all_the_way_features_are_standardized(features):
    expected = (features - features.mean(0)) / features.std(0, correction=0)
    assert torch.allclose(trained(1.0, features)(features), expected, atol=1e-3)


def test_whitening_turns_nothing(features):
    matrix = trained(0.1, features).matrix() * features.std(0, correction=0)[:, None]
    assert torch.allclose(matrix, matrix.T, atol=1e-3), "beyond each channel's scale it is symmetric: zero-phase"


def test_a_scale_of_a_channel_is_of_no_account(features):
    scales = torch.tensor([0.1, 1.0, 20.0, 1.0, 7.0, 0.2])
    one, other = trained(0.1, features)(features), trained(0.1, features * scales)(features * scales)
    assert torch.allclose(one, other, atol=1e-2)


def test_a_channel_that_never_varies_stays_silent(features):
    constant = torch.cat([features, torch.full((500, 1), 2.0)], dim=1)
    white = trained(0.1, constant)(constant)
    assert white[:, 6].abs().max() < 0.2
    assert torch.allclose(white[:, :6], trained(0.1, features)(features), atol=1e-2)


def test_a_batch_that_is_not_finite_leaves_the_statistics(features):
    layer = trained(0.1, features)
    kept = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.train()(torch.full((4, 6), torch.nan))
    assert all(torch.equal(value, kept[name]) for name, value in layer.state_dict().items())
