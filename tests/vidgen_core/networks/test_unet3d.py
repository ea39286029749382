"""Laws of the factorized U-Net."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vidgen_core.encoders.hashed_words import Config as HashedWords
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Space, Text
from vidgen_core.layers.relative import RelativeBias
from vidgen_core.networks.unet3d import Config

WORDS = HashedWords.tiny().build().encode(["a red square moves left", "a circle"])
SMALL = Config(base=16, multipliers=(1, 2), attention=(True, False), head_dim=8)


def make(space=(4, 4, 8, 8), text_dim=64, config=SMALL):
    channels, frames, height, width = space
    torch.manual_seed(0)
    network = config.build(
        Space(channels=channels, frames=frames, height=height, width=width, text_dim=text_dim)
    ).eval()
    for weight in network.parameters():
        weight.data.add_(0.05 * torch.randn_like(weight))
    return network


def noisy(space=(4, 4, 8, 8)):
    return torch.randn(2, *space, generator=torch.Generator().manual_seed(1))


TIMES = torch.tensor([0.2, 0.9])


@torch.no_grad()
def test_untrained_it_predicts_zero():
    network = SMALL.build(Space(channels=4, frames=4, height=8, width=8, text_dim=64))
    assert not network(noisy(), TIMES, WORDS).any()


@torch.no_grad()
def test_frames_kept_apart_are_the_images_that_they_would_be_alone():
    network, x = make(), noisy()
    together = network(x, TIMES, WORDS, apart=torch.ones(2, 4, dtype=torch.bool))
    alone = torch.cat([network(x[:, :, [frame]], TIMES, WORDS) for frame in range(4)], dim=2)
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(network(x, TIMES, WORDS), alone, atol=1e-3)


def test_no_gradient_crosses_to_or_from_a_frame_that_is_apart():
    network, x = make(), noisy().requires_grad_()
    apart = torch.tensor([[False, False, True, True], [False, False, False, True]])
    out = network(x, TIMES, WORDS, apart=apart)
    for frame in range(4):
        (gradient,) = torch.autograd.grad(out[0, :, frame].sum(), x, retain_graph=True)
        seen = gradient.abs().amax((1, 3, 4)) > 0
        assert seen.tolist() == [[other == frame or (frame < 2 and other < 2) for other in range(4)], [False] * 4]


@torch.no_grad()
def test_images_behind_a_video_may_change_places():
    network, x = make(), noisy()
    apart = torch.tensor([[False, False, True, True]] * 2)
    order = [0, 1, 3, 2]
    before, after = (network(frames, TIMES, WORDS, apart=apart) for frames in (x, x[:, :, order]))
    assert torch.allclose(before[:, :, order], after, atol=1e-5)


@torch.no_grad()
def test_one_time_for_all_frames_is_the_time_of_each_frame():
    network = make()
    together = network(noisy(), TIMES, WORDS)
    apart = network(noisy(), TIMES[:, None].expand(-1, 4), WORDS)
    assert torch.allclose(together, apart, atol=1e-5)
    assert not torch.allclose(together, network(noisy(), TIMES.flip(0), WORDS))


@torch.no_grad()
def test_what_stands_behind_the_words_does_not_matter_and_the_words_do():
    network = make()
    said = network(noisy(), TIMES, WORDS)
    noise = torch.where(WORDS.mask[..., None], WORDS.tokens, torch.randn_like(WORDS.tokens))
    assert torch.allclose(network(noisy(), TIMES, Text(noise, WORDS.mask)), said, atol=1e-5)
    assert not torch.allclose(network(noisy(), TIMES, WORDS.empty()), said, atol=1e-4)


@pytest.mark.parametrize("space", [(4, 3, 7, 9), (1, 1, 5, 4)])
@torch.no_grad()
def test_odd_sides_come_out_as_they_went_in(space):
    assert make(space)(noisy(space), TIMES, WORDS).shape == (2, *space)


@pytest.mark.parametrize("text_dim", [0, 64])
@pytest.mark.parametrize("blocks", [1, 2])
def test_the_formula_agrees_with_what_pytorch_counts(text_dim, blocks):
    space = (4, 3, 7, 9)
    network = make(space, text_dim, SMALL.model_copy(update={"blocks": blocks}))
    text = WORDS if text_dim else None
    with FlopCounterMode(display=False) as counted:
        network(noisy(space), TIMES, text).square().mean().backward()
    formula = network.flops(space, WORDS.tokens.shape[1] if text_dim else 0)
    assert 2 * formula.step == pytest.approx(counted.get_total_flops(), rel=0.02)


@torch.no_grad()
def test_half_precision_agrees_with_full():
    network = make()
    full = network(noisy(), TIMES, WORDS)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(noisy(), TIMES, WORDS)
    assert (half - full).norm() < 0.03 * full.norm()


def test_hidden_matrices_are_matrices_and_neither_end_is_one():
    network = make()
    weights = dict(network.named_parameters())
    hidden = network.hidden_matrices()
    assert {weights[name].ndim for name in hidden} == {2}
    assert not [name for name in hidden if name.startswith(("conv_in", "conv_out", "time.", "text_"))]
    assert sum(weights[name].numel() for name in hidden) > 0.4 * sum(weight.numel() for weight in weights.values())


def test_a_level_without_an_answer_is_refused():
    with pytest.raises(VidgenError, match="as many entries"):
        Config(multipliers=(1, 2, 4), attention=(True,))


def test_biases_hang_on_signed_distance_and_far_ones_share_theirs():
    bias = RelativeBias(2)
    with torch.no_grad():
        bias.table.copy_(torch.arange(64.0).view(32, 2))
    found = bias(80)[0, 0] / 2
    for row, column in ((0, 0), (3, 3), (5, 2), (2, 5), (0, 7), (9, 1), (40, 10), (10, 40), (79, 0), (0, 79)):
        far = abs(column - row)
        bucket = far if far < 8 else min(15, 8 + int(8 * math.log(far / 8) / math.log(32 / 8)))
        assert found[row, column] == bucket + 16 * (column > row)
