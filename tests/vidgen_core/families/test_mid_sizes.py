"""Sizes between a laptop's and a paper's, built without values: how many parameters they have."""

import pytest
import torch

from vidgen_core import discovery
from vidgen_core.interfaces import Space

PIXELS = Space(channels=3, frames=16, height=64, width=64, text_dim=0)
LATENTS = Space(channels=4, frames=16, height=32, width=32, text_dim=0)


def count(family, size, space):
    with torch.device("meta"):
        made = getattr(discovery.load("vidgen_core.families", family).Config, size)().build(space)
    return sum(value.numel() for value in made.parameters())


@pytest.mark.parametrize(
    "family,size,stated",
    [("diffusion", "base", 58e6), ("normalizing_flow", "base", 175e6)],
)
def test_a_mid_size_has_as_many_parameters_as_an_independent_prototype_of_it(family, size, stated):
    assert count(family, size, PIXELS) == pytest.approx(stated, rel=0.02)


@pytest.mark.parametrize("text_dim", [0, 512])
def test_a_transformers_parameters_are_those_of_its_blocks(text_dim):
    """Attention has 4 d^2, the perceptron 8 d^2 and the modulation 6 d^2; blocks in space read the text with 4 d^2."""
    dim, depth = 384, 12
    blocks = 2 * depth * 18 * dim**2 + (depth * 4 * dim**2 if text_dim else 0)
    assert count("flow_matching", "mid", LATENTS.model_copy(update={"text_dim": text_dim})) == pytest.approx(
        blocks, rel=0.03
    )
