"""Laws of TimeSformer: published sizes, and what the schemes of attention have in common."""

import pytest
import torch

from vidgen_core.errors import VidgenError
from vidgen_core.networks.timesformer import Config

SMALL = {"classes": 3, "frames": 4, "side_px": 16, "patch_px": 8, "dim": 32, "depth": 2, "heads": 2}


def built(attention, seed=0):
    torch.manual_seed(seed)
    network = Config(attention=attention, **SMALL).build().eval()
    with torch.no_grad():
        network.class_token.normal_()
    return network.requires_grad_(False)


def video(frames=4):
    return torch.randn(2, 3, frames, 16, 16, generator=torch.Generator().manual_seed(1))


def stirred(network):
    """The network with what is zero before training set to something."""
    for name, values in network.named_parameters():
        if "time" in name:
            values.add_(0.3 * torch.randn(values.shape, generator=torch.Generator().manual_seed(2)))
    return network


@pytest.mark.parametrize(
    "attention,parameters", [("divided", 121_566_352), ("joint", 86_112_400), ("space", 86_106_256)]
)
def test_parameters_are_as_many_as_in_the_authors_network(attention, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in Config(attention=attention).build().parameters()) == parameters


def test_a_small_one_has_as_many_parameters_as_measured():
    tiny = Config(classes=10, frames=8, side_px=64, patch_px=8, dim=128, depth=4, heads=4)
    assert sum(p.numel() for p in tiny.build().parameters()) == 1_160_074


@pytest.mark.parametrize("attention", ["divided", "joint", "space"])
def test_before_training_the_order_of_frames_does_not_matter(attention):
    network = built(attention)
    assert torch.allclose(network(video()), network(video().flip(2)), atol=1e-5)


@pytest.mark.parametrize("attention", ["divided", "joint"])
def test_after_training_it_does(attention):
    network = stirred(built(attention))
    assert not torch.allclose(network(video()), network(video().flip(2)), atol=1e-3)


def test_a_still_clip_is_read_as_frames_alone_are():
    divided, space = built("divided"), built("space")
    space.load_state_dict({name: v for name, v in divided.state_dict().items() if name in space.state_dict()})
    still = video(1).expand(-1, -1, 4, -1, -1)
    assert torch.allclose(divided(still), space(still), atol=1e-5)


def test_every_frame_is_read():
    network = stirred(built("divided"))
    clip = video().requires_grad_()
    network(clip).sum().backward()
    assert (clip.grad.abs().amax((1, 3, 4)) > 0).all()


def test_places_in_sines_tell_the_order_of_frames_from_the_start_and_near_places_from_far_ones():
    torch.manual_seed(0)
    network = Config(attention="joint", places="sines", **{**SMALL, "patch_px": 2}).build().eval()
    assert not torch.allclose(network(video()), network(video().flip(2)), atol=1e-3)
    rows = network.positions.detach()[0, 1:].unflatten(0, (8, 8))[:, 0]
    apart = (rows - rows[:1]).norm(dim=-1)
    assert (apart[1:4].diff() > 0).all()


def test_a_stem_reads_a_frame_before_it_is_cut_and_keeps_the_places():
    torch.manual_seed(0)
    network = Config(stem=(4, 8), **SMALL).build().eval()
    clip = video().requires_grad_()
    tokens = network.embed(network.stem(clip[:, :, 0]))
    assert tokens.shape[-2:] == (2, 2)
    tokens[:, :, 0, 0].sum().backward()
    seen = clip.grad[:, :, 0].abs().amax((0, 1))
    assert seen[8:, :].sum() == 0 == seen[:, 8:].sum(), "a patch sees what is before it, not what comes after"
    assert (seen[:8, :8] > 0).any(1).all()
    assert not [*Config(**SMALL).build().stem.parameters()]


def test_a_stem_that_shrinks_more_than_a_patch_is_refused():
    with pytest.raises(VidgenError, match="stem of 4 layers"):
        Config(**{**SMALL, "stem": (4, 4, 4, 4)}).build()


def test_blocks_are_left_out_in_training_alone():
    network = built("divided")
    network.blocks[1].drop_path = 0.9
    assert torch.equal(network(video()), network(video()))
    network.train()
    assert not torch.equal(network(video()), network(video()))


def test_a_side_that_cannot_be_cut_is_refused_with_the_nearest_that_can():
    with pytest.raises(VidgenError, match="patches") as refusal:
        Config(side_px=30, patch_px=8).build()
    assert "24" in refusal.value.move
