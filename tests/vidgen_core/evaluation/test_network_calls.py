"""Laws of counting passes through a network."""

import pytest
import torch
from torch import nn

from tests.vidgen_core.families.conftest import ENCODER, SPACE
from vidgen_core.chance import Chance
from vidgen_core.evaluation.network_calls import network_calls
from vidgen_core.families import flow_matching, gan, normalizing_flow, vae
from vidgen_core.interfaces import Ask
from vidgen_core.networks import factorized_dit, tarflow

DENOISER = flow_matching.Config(network=factorized_dit.Config(dim=16, depth=1, heads=2))


def calls_of(config, **changes):
    family = config.build(SPACE).eval().requires_grad_(False)
    ask = Ask(index=torch.arange(1), shape=SPACE.shape, text=ENCODER.encode(["a red square"]), **changes)
    return network_calls(family, lambda: family.generate(ask, Chance(0)))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("sampler,calls", [("euler", 5), ("heun", 9), ("midpoint", 10), ("dpm_solver_2m", 5)])
def test_a_solvers_calls_are_those_of_its_order(sampler, calls, guidance):
    assert calls_of(DENOISER, steps=5, sampler=sampler, guidance=guidance) == calls


def test_what_draws_in_one_pass_calls_once():
    assert calls_of(gan.Config.tiny()) == 1
    assert calls_of(vae.Config.tiny()) == 1


def test_a_flow_that_is_inverted_token_by_token_calls_once_a_token():
    network = tarflow.Config(dim=16, blocks=2, depth=1, heads=2, patch_frames=1, patch_px=4)
    config = normalizing_flow.Config(network=network, denoise=False)
    tokens = SPACE.frames * SPACE.height * SPACE.width // 16
    assert calls_of(config) in (tokens - 1, tokens)


def test_nothing_is_left_behind():
    layer = nn.Linear(2, 2)
    assert network_calls(layer, lambda: [layer(torch.zeros(1, 2)) for _ in range(3)]) == 3
    assert not layer._forward_hooks
    assert network_calls(layer, lambda: None) == 0
