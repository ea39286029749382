"""Laws of the factorized transformer, with and without convolutions around it."""

import pytest
import torch

from vidgen_core.encoders.hashed_words import Config as HashedWords
from vidgen_core.interfaces import Space, Text
from vidgen_core.networks.factorized_dit import Config

SPACE = Space(channels=4, frames=4, height=8, width=8, text_dim=64)
WORDS = HashedWords.tiny().build().encode(["a red square moves left", "a circle"])
CONFIGS = {
    "plain": Config(dim=48, depth=1),
    "stem": Config(dim=48, depth=1, stem_channels=16),
    "patches in time": Config(dim=48, depth=1, patch_frames=2, stem_channels=16),
}


@pytest.fixture(params=CONFIGS, name="network")
def _network(request):
    torch.manual_seed(0)
    network = CONFIGS[request.param].build(SPACE).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return network


def noisy():
    return torch.randn(2, *SPACE.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@torch.no_grad()
def test_untrained_it_predicts_zero(config):
    assert not config.build(SPACE)(noisy(), torch.tensor([0.2, 0.9]), WORDS).any()


@torch.no_grad()
def test_one_time_for_all_frames_is_the_time_of_each_frame(network):
    times = torch.tensor([0.2, 0.9])
    together = network(noisy(), times, WORDS)
    apart = network(noisy(), times[:, None].expand(-1, SPACE.frames), WORDS)
    assert torch.equal(together, apart)
    assert together.shape == noisy().shape
    assert not torch.allclose(together, network(noisy(), times.flip(0), WORDS))


@torch.no_grad()
def test_what_stands_behind_the_words_does_not_matter_and_every_word_does(network):
    times = torch.tensor([0.5, 0.5])
    said = network(noisy(), times, WORDS)
    noise = torch.where(WORDS.mask[..., None], WORDS.tokens, torch.randn_like(WORDS.tokens))
    assert torch.allclose(network(noisy(), times, Text(noise, WORDS.mask)), said, atol=1e-5)
    for word in range(5):
        mask = WORDS.mask.clone()
        mask[0, word] = False
        less = network(noisy(), times, Text(WORDS.tokens * mask[..., None], mask))
        assert not torch.allclose(less[0], said[0], atol=1e-5)
        assert torch.allclose(less[1], said[1], atol=1e-5)


def test_hidden_matrices_are_matrices_and_neither_end_is_one(network):
    weights = dict(network.named_parameters())
    hidden = network.hidden_matrices()
    assert {weights[name].ndim for name in hidden} == {2}
    ends = ("embed.", "to_out.", "time.", "text_", "stem.conv_in", "head.conv_out", "head.input_share")
    assert not [name for name in hidden for end in ends if name.startswith(end) or ".modulation" in name]
    assert sum(weights[name].numel() for name in hidden) > 0.4 * sum(weight.numel() for weight in weights.values())


@torch.no_grad()
def test_half_precision_agrees_with_full(network):
    times = torch.tensor([0.2, 0.9])
    full = network(noisy(), times, WORDS)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(noisy(), times, WORDS)
    assert (half - full).norm() < 0.02 * full.norm()


@torch.no_grad()
def test_a_clip_of_another_shape_is_seen_as_by_a_network_built_for_it(network):
    other = SPACE.model_copy(update={"frames": 2, "height": 4, "width": 12})
    built = network.config.build(other).eval()
    built.load_state_dict(network.state_dict())
    x = torch.randn(2, *other.shape, generator=torch.Generator().manual_seed(2))
    t = torch.tensor([0.2, 0.9])
    assert torch.equal(network(x, t, WORDS), built(x, t, WORDS))
