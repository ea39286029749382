"""Laws of normalizing flows: they are invertible, and their determinants are those of their Jacobians."""

import math

import pytest
import torch

from tests.vidgen_core.families.learning import learned
from vidgen_core.chance import Chance
from vidgen_core.encoders.hashed_words import Config as HashedWords
from vidgen_core.families import normalizing_flow
from vidgen_core.interfaces import Ask, Batch, Space
from vidgen_core.networks import coupling_flow, tarflow

SPACE = Space(channels=2, frames=2, height=4, width=4, text_dim=64)
TEXT = HashedWords.tiny().build().encode(["a red square", "a blue circle"])
KINDS = {
    "tarflow": tarflow.Config(dim=32, blocks=3, depth=1, heads=2),
    "coupling": coupling_flow.Config(steps=3, hidden=16),
}


@pytest.fixture(params=KINDS, name="network")
def _network(request):
    return built(request.param)


def built(kind, scale=0.05):
    torch.manual_seed(0)
    network = KINDS[kind].build(SPACE)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return network.requires_grad_(False)


def video(count=2, dtype=torch.float32):
    return torch.randn(count, *SPACE.shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def doubled(text):
    return type(text)(text.tokens.double(), text.mask)


def test_the_inverse_undoes_the_flow(network):
    assert (network.inverse(network(video(), TEXT)[0], TEXT) - video()).abs().max() < 1e-4
    assert (network(network.inverse(video(), TEXT), TEXT)[0] - video()).abs().max() < 1e-4


def test_the_log_determinant_is_that_of_the_jacobian(network):
    network = network.double()
    one = video(1, torch.float64)
    text = doubled(type(TEXT)(TEXT.tokens[:1], TEXT.mask[:1]))
    jacobian = torch.autograd.functional.jacobian(lambda x: network(x, text)[0], one).reshape(64, 64)
    assert network(one, text)[1].item() == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-5)


@torch.no_grad()
def test_half_precision_rounds_what_networks_say_and_not_the_flow(network):
    """Where all that they say are numbers without a rounding, both precisions give the same bits."""
    numbers = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, coupling_flow.AffineCoupling | tarflow.FlowBlock):
            last = module.last if isinstance(module, coupling_flow.AffineCoupling) else module.to_out
            last.weight.zero_()
            last.bias.copy_((0.3 * torch.randn(last.bias.shape, generator=numbers)).bfloat16())
    full = network(video(), TEXT)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(video(), TEXT)
    assert all(torch.equal(one, other) for one, other in zip(full, half, strict=True))


def test_before_training_transformers_are_the_identity():
    torch.manual_seed(0)
    noise, log_volume = KINDS["tarflow"].build(SPACE)(video(), TEXT)
    assert torch.equal(noise, video())
    assert torch.equal(log_volume, torch.zeros(2))


def test_a_patch_depends_on_no_later_patch_within_a_block():
    network = built("tarflow").double()
    block = next(iter(network.blocks))
    tokens = torch.randn(1, 8, 8, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: block(x, None)[0], tokens)[0, :, :, 0]
    for place in range(8):
        assert not jacobian[place, :, place + 1 :].any()
        assert jacobian[place, :, place].abs().max() > 0


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_jacobis_iteration_finds_what_token_by_token_finds(guidance):
    network = built("tarflow", 0.1)
    slow = network.inverse(video(), TEXT, guidance=guidance)
    assert torch.allclose(network.inverse(video(), TEXT, guidance=guidance, tolerance=0.0), slow, atol=1e-4)


def test_guidance_is_the_product_of_powers_of_both_densities():
    mean, log_scale = torch.tensor([[[0.5]], [[-0.2]]]), torch.tensor([[[-0.4]], [[0.1]]])
    center, spread = tarflow._guided(mean, log_scale, 3.0)
    precision = 3 * math.exp(0.8) - 2 * math.exp(-0.2)
    assert spread.item() == pytest.approx(-0.5 * math.log(precision), abs=1e-6)
    assert center.item() == pytest.approx((3 * math.exp(0.8) * 0.5 + 2 * math.exp(-0.2) * 0.2) / precision, abs=1e-6)


def test_the_score_is_the_gradient_also_while_sampling():
    family = normalizing_flow.Config(network=KINDS["tarflow"]).build(SPACE).requires_grad_(False)
    # Before training the flow is the identity, so its density is a standard normal one and its score is -x.
    with torch.inference_mode():
        assert torch.allclose(family.score(video(), TEXT), -video(), atol=1e-5)


def test_a_gaussian_is_learned_to_its_entropy_and_patterns_better_than_by_a_diagonal_gaussian():
    torch.manual_seed(0)
    config = normalizing_flow.Config(network=tarflow.Config(dim=48, blocks=2, depth=1, heads=2), noise_std=0.1)
    family = learned(config.build(SPACE), lambda step: stripes(64, 64 * step), 250)
    batch = stripes(256, 1_000_000)
    with torch.no_grad():
        ours = family.held_out(batch, Chance(1))["loss"].mean().item()
    noisy = batch.video + 0.1 * Chance(1).normal("noise", batch.index, SPACE.shape)
    spread = noisy.flatten(1).std(0)
    diagonal = (0.5 * math.log(2 * math.pi * math.e) + spread.log()).mean().item()
    assert ours < diagonal - 0.5
    made = family.eval().generate(Ask(torch.arange(64), SPACE.shape, None), Chance(0))
    assert (made.abs().mean((1, 2, 4)).std(1) > 0).all()


def stripes(count, start):
    """Clips of one random sign a row: far from a diagonal Gaussian, though each pixel alone looks like one coin."""
    signs = torch.randint(0, 2, (count, 1, 1, 4, 1), generator=torch.Generator().manual_seed(start)) * 2.0 - 1
    return Batch(signs.expand(count, *SPACE.shape).clone(), None, torch.arange(start, start + count))
