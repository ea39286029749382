"""Known values of adversarial objectives, and penalties of critics whose gradient is known."""

import math

import pytest
import torch

from vidgen_core.errors import VidgenError
from vidgen_core.families._critic import swapped
from vidgen_core.interfaces import Text
from vidgen_core.layers.spectral import normalized
from vidgen_core.objectives.adversarial import as_fake, as_real, gradient_length, made_real

ZERO = torch.zeros(1)
LOSSES = ("hinge", "non_saturating", "least_squares", "wasserstein")


@pytest.mark.parametrize(
    "loss,critic,generator",
    [("hinge", 2.0, 0.0), ("non_saturating", 2 * math.log(2), math.log(2)), ("least_squares", 0.5, 0.5)]
    + [("wasserstein", 0.0, 0.0)],
)
def test_values_at_a_score_of_zero(loss, critic, generator):
    assert (as_real(loss, ZERO) + as_fake(loss, ZERO)).item() == pytest.approx(critic)
    assert made_real(loss, ZERO).item() == pytest.approx(generator)


@pytest.mark.parametrize("loss", LOSSES)
def test_critics_and_generators_pull_a_score_in_opposite_directions(loss):
    score = torch.tensor([0.1, 0.4, 0.8], requires_grad=True)
    pulls = [torch.autograd.grad(part(loss, score).sum(), score)[0] for part in (as_real, as_fake, made_real)]
    assert (pulls[0] < 0).all()
    assert (pulls[1] >= 0).all()
    assert (pulls[2] < 0).all()


def test_a_hinge_generator_is_pushed_even_where_it_convinces():
    score = torch.tensor([5.0], requires_grad=True)
    assert torch.autograd.grad(made_real("hinge", score).sum(), score)[0].item() == -1


def test_the_gradient_of_a_linear_critic_has_the_length_of_its_weights():
    w = torch.randn(12, generator=torch.Generator().manual_seed(0)).requires_grad_()
    at = torch.randn(5, 3, 4, requires_grad=True)
    length = gradient_length(at.flatten(1) @ w, at)
    assert torch.allclose(length, w.norm().expand(5), atol=1e-5)
    (slope,) = torch.autograd.grad((length**2).mean() / 2, w)
    assert torch.allclose(slope, w, atol=1e-5)


def test_normalized_weights_have_a_largest_singular_value_of_one_also_while_they_learn():
    torch.manual_seed(0)
    layer = normalized(torch.nn.Conv3d(4, 6, 3))
    optimizer = torch.optim.SGD(layer.parameters(), 0.05)
    x = torch.randn(2, 4, 4, 5, 5)
    for _ in range(60):
        optimizer.zero_grad()
        layer(x).pow(2).mean().backward()
        optimizer.step()
    layer(x)
    assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.01)


def test_passes_change_no_normalized_weight():
    layer = normalized(torch.nn.Linear(5, 7))
    first = layer.weight.clone()
    for _ in range(3):
        layer(torch.randn(2, 5))
    assert torch.equal(layer.eval().weight, first)


def test_neighbors_swap_texts_and_equal_ones_count_for_nothing():
    tokens = torch.tensor([1.0, 2.0, 3.0, 3.0])[:, None, None]
    other, differs = swapped(Text(tokens, torch.ones(4, 1, dtype=torch.bool)))
    assert other.tokens.flatten().tolist() == [2, 1, 3, 3]
    assert differs.tolist() == [1, 1, 0, 0]
    with pytest.raises(VidgenError, match="paired"):
        swapped(Text(tokens[:3], torch.ones(3, 1, dtype=torch.bool)))
