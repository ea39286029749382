"""Laws of the variational autoencoder that not every family shares."""

import math

import pytest
import torch

from tests.vidgen_core.families.learning import learned
from vidgen_core.chance import Chance
from vidgen_core.encoders.hashed_words import Config as HashedWords
from vidgen_core.families import vae
from vidgen_core.interfaces import Ask, Batch, Space
from vidgen_core.networks import information_model

SPACE = Space(channels=3, frames=2, height=8, width=8, text_dim=64)
ENCODER = HashedWords.tiny().build()
SMALL = information_model.Config(dim=48, encoder_depth=1, decoder_depth=1, patch_px=2, codes=4, code_dim=4)


def squares(count, start=0):
    """One bright square a clip in a corner that the caption does not tell; its color is in the caption."""
    draws = torch.Generator().manual_seed(start)
    places, colors = (
        4 * torch.randint(0, 2, (count, 2), generator=draws),
        torch.randint(0, 3, (count,), generator=draws),
    )
    video = torch.full((count, *SPACE.shape), -0.8)
    for clip, (row, column), color in zip(video, places.tolist(), colors.tolist(), strict=True):
        clip[color, :, row : row + 4, column : column + 4] = 0.8
    captions = [("red", "green", "blue")[color] for color in colors.tolist()]
    return Batch(video, ENCODER.encode(captions), torch.arange(start, start + count))


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    family = vae.Config(network=SMALL, warmup_samples=10_000).build(SPACE)
    return learned(family, lambda step: squares(32, 32 * step), 450).eval()


@torch.no_grad()
def test_codes_carry_what_the_captions_do_not_say(trained):
    batch = squares(64, 1_000_000)
    codes, _ = trained.posterior(batch.video, batch.text)
    right = (trained.decode(codes, batch.text) - batch.video).pow(2).mean()
    shuffled = (trained.decode(codes.roll(1, 0), batch.text) - batch.video).pow(2).mean()
    assert 10 * math.log10(shuffled / right) > 3
    active = (codes.flatten(1).var(0) > 0.01).sum()
    assert active >= 2


@torch.no_grad()
def test_the_caption_draws_what_it_says(trained):
    text = ENCODER.encode(["red"] * 8 + ["blue"] * 8)
    made = trained.generate(Ask(torch.arange(16), SPACE.shape, text), Chance(0)).mean((2, 3, 4))
    assert (made[:8, 0] > made[:8, 2]).all()
    assert (made[8:, 2] > made[8:, 0]).all()


@torch.no_grad()
def test_many_draws_tighten_the_bound(trained):
    """Burda et al. 2015 (arXiv:1509.00519): the bound by importance weights only rises with the draws."""
    batch = squares(16, 2_000_000)
    bounds = [importance_bound(trained, batch, draws) for draws in (1, 8, 64)]
    assert bounds[0] < bounds[1] < bounds[2]


def importance_bound(family, batch, draws):
    mean, log_variance = family.posterior(batch.video, batch.text)
    weights = []
    for draw in range(draws):
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(draw))
        z = mean + (0.5 * log_variance).exp() * noise
        seen = torch.distributions.Normal(family.decode(z, batch.text), (0.5 * family.log_variance).exp())
        prior, posterior = (
            torch.distributions.Normal(0, 1),
            torch.distributions.Normal(mean, (0.5 * log_variance).exp()),
        )
        ratio = prior.log_prob(z) - posterior.log_prob(z)
        weights.append(seen.log_prob(batch.video).flatten(1).sum(1) + ratio.flatten(1).sum(1))
    return (torch.stack(weights).logsumexp(0) - math.log(draws)).mean().item()


def test_the_divergence_counts_from_nothing_to_its_whole_weight_over_the_warmup():
    torch.manual_seed(0)
    family = vae.Config(network=SMALL, warmup_samples=100).build(SPACE)
    plain = vae.Config(network=SMALL, warmup_samples=0, divergence_weight=0).build(SPACE)
    full = vae.Config(network=SMALL, warmup_samples=0).build(SPACE)
    plain.load_state_dict(family.state_dict())
    full.load_state_dict(family.state_dict())

    def loss(family, index):
        batch = Batch(squares(2).video, squares(2).text, torch.tensor([index, index]))
        return next(iter(family.losses(batch, Chance(0))))[1].item()

    assert loss(family, 0) == pytest.approx(loss(plain, 0))
    assert loss(family, 100) == pytest.approx(loss(full, 100))
    assert loss(family, 50) == pytest.approx((loss(plain, 50) + loss(full, 50)) / 2)


def test_a_prior_that_reads_the_text_depends_on_it():
    family = vae.Config(network=SMALL, prior_reads_text=True).build(SPACE)
    text = ENCODER.encode(["red", "blue"])
    mean, _ = family.prior_of(text, torch.zeros(2, 4, 4))
    assert not torch.allclose(mean[0], mean[1])
