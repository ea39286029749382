"""A tiny generator whose codec codes groups of two frames in blocks of four pixels."""

import numpy as np
import pytest
import torch

from vidgen_core.applications.generator import Card, Generator
from vidgen_core.codecs import causal_vae
from vidgen_core.encoders import hashed_words
from vidgen_core.families import flow_matching, gan
from vidgen_core.interfaces import Space
from vidgen_core.networks import factorized_dit
from vidgen_core.sampling import Sampling

FRAMES, SIDE = 9, 16


def generator_of(family, config):
    encoder = hashed_words.Config.tiny().build()
    codec = causal_vae.Config(channels=48, widths=(8, 8)).build().eval()
    channels, frames, height, width = codec.latent_shape(FRAMES, SIDE, SIDE)
    space = Space(channels=channels, frames=frames, height=height, width=width, text_dim=encoder.dim)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = config.build(space).eval()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    card = Card(
        family=family, config={}, space=space, text="hashed_words", text_config={}, frame_rate="8",
        sampling=Sampling(sampler="euler", steps=2, guidance=2.0),
    )  # fmt: skip
    return Generator(card, made.requires_grad_(False), codec, encoder)


@pytest.fixture(scope="module", params=[0.0, 0.5], ids=["replaced", "shown"])
def generator(request):
    """Once with known elements replaced, once with known frames shown clean."""
    network = factorized_dit.Config(dim=16, depth=1, heads=2)
    return generator_of("flow_matching", flow_matching.Config(network=network, shown_frames=request.param))


@pytest.fixture(scope="module")
def unable():
    """A generator that draws whole videos only."""
    return generator_of("gan", gan.Config.tiny())


@pytest.fixture(scope="module")
def video():
    """A smooth clip uint8 [T, H, W, 3]: waves that travel, slowly enough for a codec that learned nothing."""
    t, y, x = np.meshgrid(np.arange(FRAMES), np.arange(SIDE), np.arange(SIDE), indexing="ij")
    waves = [
        128 + 80 * np.sin(2 * np.pi * (axis / 32 + t / 64) + phase) for axis, phase in ((x, 0), (y, 1), (x + y, 2))
    ]
    return np.stack(waves, -1).round().astype(np.uint8)
