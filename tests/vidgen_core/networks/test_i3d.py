"""Laws of I3D: the published sizes, the names of the public weights, inflation."""

import pytest
import torch
from torch.nn import functional as F

from vidgen_core.networks.i3d import Config, Unit, inflated, renamed

SMALL = Config(classes=5, width=0.125, stem_kernel=(3, 5), stem_stride=(1, 2), last_pool=None)


def count(config):
    with torch.device("meta"):
        return sum(p.numel() for p in config.build().parameters())


def test_parameters_are_as_many_as_published():
    assert count(Config()) == 12_697_264
    assert count(Config(channels=2)) == 12_675_312
    assert count(Config()) - count(Config(classes=0)) == 1024 * 400 + 400


@pytest.mark.parametrize("frames,places", [(9, 1), (16, 1), (17, 2), (32, 3), (64, 7)])
def test_places_in_time_that_are_left_of_frames(frames, places):
    with torch.device("meta"):
        maps = Config().build().maps(torch.zeros(1, 3, frames, 224, 224))
    assert maps.shape == (1, 1024, places, 1, 1)


def test_a_still_video_gets_the_response_of_the_picture_where_time_is_not_padded():
    torch.manual_seed(0)
    picture, kernel = torch.randn(1, 3, 9, 9), torch.randn(4, 3, 3, 3)
    unit = Unit(3, 4, (3, 3, 3), last=True)
    with torch.no_grad():
        unit.conv3d.weight.copy_(inflated(kernel, 3))
        unit.conv3d.bias.zero_()
        response = unit(picture[:, :, None].expand(-1, -1, 5, -1, -1))
    expected = F.conv2d(picture, kernel, padding=1)
    assert torch.allclose(response[:, :, 2], expected, atol=1e-5)


def test_sizes_are_halved_and_rounded_up_as_in_tensorflow():
    unit = Unit(1, 1, (3, 3, 3), (2, 2, 2), last=True)
    assert unit(torch.zeros(1, 1, 7, 8, 9)).shape[2:] == (4, 4, 5)


def converted(state):
    """The names that weights converted from TensorFlow bear."""
    names = {"b0": "branch_0", "b1a": "branch_1.0", "b1b": "branch_1.1", "b2a": "branch_2.0", "b2b": "branch_2.1"}
    names |= {"b3b": "branch_3.1", "bn": "batch3d", "logits": "conv3d_0c_1x1"}
    found = {}
    for key, value in state.items():
        parts = [names.get(part, part) for part in key.split(".")]
        parts[0] = parts[0][0].lower() + parts[0][1:]
        found[".".join(parts)] = value
    return found


def test_weights_of_both_public_namings_load():
    torch.manual_seed(0)
    network = SMALL.build()
    state = network.state_dict()
    assert any(key.startswith("mixed_3b.branch_1.0.batch3d.") for key in converted(state))
    for named in (state, converted(state)):
        other = SMALL.build()
        other.load_state_dict(renamed(named))
        assert torch.equal(other.logits.conv3d.weight, network.logits.conv3d.weight)
        assert torch.equal(other.Mixed_4c.b2b.bn.running_mean, network.Mixed_4c.b2b.bn.running_mean)


def test_a_small_one_reads_small_clips_and_its_logits_read_all_of_them():
    torch.manual_seed(0)
    network = SMALL.build().eval()
    video = torch.randn(2, 3, 8, 32, 32, requires_grad=True)
    logits = network(video)
    assert logits.shape == (2, 5)
    assert network.features(video).shape == (2, network.dim)
    logits.sum().backward()
    assert (video.grad.abs().amax((1, 3, 4)) > 0).all()
