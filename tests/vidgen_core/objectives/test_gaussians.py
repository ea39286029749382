"""Closed forms of Gaussians against an independent implementation and against draws."""

import torch
from torch.distributions import Normal, kl_divergence

from vidgen_core.objectives.gaussians import divergence, drawn, negative_log_likelihood

MEAN, LOG_VARIANCE, PRIOR_MEAN, PRIOR_LOG_VARIANCE, X = torch.randn(
    5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
)


def normal(mean, log_variance):
    return Normal(mean, (0.5 * log_variance).exp())


def test_they_equal_torchs_distributions():
    ours = divergence(MEAN, LOG_VARIANCE, PRIOR_MEAN, PRIOR_LOG_VARIANCE)
    assert torch.allclose(ours, kl_divergence(normal(MEAN, LOG_VARIANCE), normal(PRIOR_MEAN, PRIOR_LOG_VARIANCE)))
    assert torch.allclose(negative_log_likelihood(X, MEAN, LOG_VARIANCE), -normal(MEAN, LOG_VARIANCE).log_prob(X))


def test_the_divergence_is_the_mean_of_the_log_ratio_over_draws():
    noise = torch.randn(200_000, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    z = drawn(MEAN, LOG_VARIANCE, noise)
    ratio = normal(MEAN, LOG_VARIANCE).log_prob(z) - normal(PRIOR_MEAN, PRIOR_LOG_VARIANCE).log_prob(z)
    ours = divergence(MEAN, LOG_VARIANCE, PRIOR_MEAN, PRIOR_LOG_VARIANCE)
    assert torch.allclose(ratio.mean(0), ours, rtol=0.03, atol=0.02)


def test_it_is_zero_between_equals_and_positive_otherwise():
    assert torch.equal(divergence(MEAN, LOG_VARIANCE, MEAN, LOG_VARIANCE), torch.zeros(6, dtype=torch.float64))
    assert (divergence(MEAN, LOG_VARIANCE, PRIOR_MEAN, PRIOR_LOG_VARIANCE) > 0).all()


def test_the_evidence_bound_is_below_the_exact_likelihood_and_touches_it_at_the_exact_posterior():
    """Linear Gaussian model x = W z + s n, whose likelihood and posterior have closed forms."""
    draws = torch.Generator().manual_seed(2)
    w = torch.randn(5, 2, dtype=torch.float64, generator=draws)
    noise_log_variance = torch.tensor(-1.0, dtype=torch.float64)
    x = torch.randn(5, dtype=torch.float64, generator=draws)
    covariance = w @ w.T + noise_log_variance.exp() * torch.eye(5, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(torch.zeros(5, dtype=torch.float64), covariance).log_prob(x)
    precision = torch.eye(2, dtype=torch.float64) + w.T @ w / noise_log_variance.exp()
    mean = torch.linalg.solve(precision, w.T @ x / noise_log_variance.exp())
    # A diagonal posterior can be exact only in the eigenvectors' coordinates, so the codes are turned into those.
    variances, turn = torch.linalg.eigh(torch.linalg.inv(precision))
    codes_mean, codes_log_variance, w = turn.T @ mean, variances.log(), w @ turn

    def bound(mean, log_variance):
        noise = torch.randn(40_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        seen = drawn(mean, log_variance, noise) @ w.T
        distortion = negative_log_likelihood(x, seen, noise_log_variance).sum(1).mean()
        zero = torch.zeros(2, dtype=torch.float64)
        return -(distortion + divergence(mean, log_variance, zero, zero).sum())

    assert torch.allclose(bound(codes_mean, codes_log_variance), exact, atol=0.02)
    assert bound(codes_mean + 0.3, codes_log_variance) < exact - 0.05
    assert bound(codes_mean, codes_log_variance + 0.7) < exact - 0.05
