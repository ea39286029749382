"""Laws of contrastive learning: the published sizes, the distribution of views in time, the loss, and its workers."""

import math

import pytest
import torch

from vidgen_core.chance import Chance
from vidgen_core.encoders import cvrl
from vidgen_core.objectives.contrastive import info_nce


def test_the_paper_size_has_as_many_parameters_as_published():
    with torch.device("meta"):
        encoder = cvrl.Config.paper().build()
    assert round(sum(value.numel() for value in encoder.network.parameters()) / 1e6, 1) == 31.7
    assert encoder.dim == 2048


def test_distances_in_time_fall_linearly():
    drawn = cvrl.distance(torch.rand(200_000, generator=torch.Generator().manual_seed(0)), 30.0)
    assert drawn.min() >= 0
    assert drawn.max() < 30
    assert drawn.mean() == pytest.approx(10.0, rel=0.01)
    assert drawn.median() == pytest.approx(30 * (1 - 1 / math.sqrt(2)), rel=0.02)


def test_both_views_lie_inside_a_clip_and_either_may_be_first():
    first, second = cvrl.starts(20, 5, 2, torch.rand(10_000, 3, generator=torch.Generator().manual_seed(0)))
    for start in (first, second):
        assert start.min() == 0
        assert start.max() == 20 - 4 * 2 - 1
    assert 0.4 < (first < second).float().mean() + (first == second).float().mean() / 2 < 0.6
    short = cvrl.starts(4, 5, 2, torch.rand(9, 3))
    assert all((start == 0).all() for start in short)


@pytest.mark.parametrize("count,expected", [(4, 3.891820), (8, 5.416100)])
def test_the_loss_of_equal_embeddings_is_that_of_a_guess(count, expected):
    same = torch.ones(count, 6)
    assert info_nce(same, same, temperature=0.1).mean() == pytest.approx(expected, abs=1e-5)


def test_the_loss_of_views_that_agree_and_share_nothing_with_others():
    apart = torch.eye(4)
    expected = 2 * math.log(1 + 6 * math.exp(-10))
    assert info_nce(apart, apart, temperature=0.1).mean() == pytest.approx(expected, rel=1e-3)


def test_the_loss_falls_when_a_pair_comes_closer():
    draws = torch.Generator().manual_seed(0)
    first, second = torch.randn(6, 8, generator=draws), torch.randn(6, 8, generator=draws)
    closer = second.lerp(first, 0.3)
    assert (info_nce(first, closer, temperature=0.1).mean() < info_nce(first, second, temperature=0.1).mean()).item()


def test_views_are_of_a_sample_and_its_place_in_the_stream_alone():
    torch.manual_seed(0)
    encoder = cvrl.Config.tiny().build().eval()
    from vidgen_core.interfaces import Batch

    batch = Batch(torch.rand(3, 3, 9, 32, 32) * 2 - 1, None, torch.tensor([5, 6, 7]))
    alone = Batch(batch.video[1:2], None, torch.tensor([6]))
    assert torch.allclose(encoder._seen(alone, Chance(0))[0], encoder._seen(batch, Chance(0))[0][1:2], atol=1e-5)


def test_how_much_a_view_is_blurred_says_nothing_of_whether_it_is_solarized():
    config = cvrl.Config.tiny().model_copy(update={"blurs": (0.0, 0.0), "solarizes": 0.5, "noise": 0.0})
    encoder, numbers = config.build(), torch.Generator().manual_seed(0)
    draws = torch.rand(1, 17, generator=numbers).repeat(9, 1)
    video = (torch.rand(1, 3, 3, 8, 8, generator=numbers) * 2 - 1).repeat(9, 1, 1, 1, 1)
    distinct = []
    for place in range(12, 17):
        changed = draws.clone()
        changed[:, place] = torch.linspace(0, 0.99, 9)
        distinct.append(len(encoder._view(video, changed, 1, None).unique(dim=0)))
    assert distinct == [1, 1, 2, 1, 2]  # blurred or not, how much; without its mean or not; noise; solarized or not


def test_what_moves_and_what_is_still_lie_apart_and_make_the_video_together():
    torch.manual_seed(0)
    encoder, video = cvrl.Config.tiny().build(), torch.rand(2, 3, 4, 8, 8) * 2 - 1
    moved, still = encoder._read(video).chunk(2, dim=1)
    assert torch.allclose(moved + still, video, atol=1e-6)
    assert torch.equal(still, still[:, :, :1].expand_as(still))
    on_another_ground = encoder._read(video + torch.rand(2, 3, 1, 8, 8)).chunk(2, dim=1)[0]
    assert torch.allclose(on_another_ground, moved, atol=1e-6)
    without = encoder._read(video, torch.tensor([True, False]))
    assert without[0, 3:].abs().max() == 0
    assert torch.equal(without[1], encoder._read(video)[1])


def test_the_papers_views_are_the_video_itself():
    config = cvrl.Config.tiny().model_copy(update={"apart": False})
    video = torch.rand(2, 3, 4, 8, 8) * 2 - 1
    assert torch.allclose(config.build()._read(video), video, atol=1e-6)


def test_features_are_of_the_last_stage_or_of_all_of_them():
    config, video = cvrl.Config.tiny(), torch.rand(2, 3, 9, 32, 32) * 2 - 1
    widths = []
    for all_stages in (False, True):
        torch.manual_seed(0)
        encoder = config.model_copy(update={"all_stages": all_stages}).build().eval()
        widths.append(encoder.embed(video))
        assert widths[-1].shape == (2, encoder.dim)
    average, many = widths
    assert torch.equal(many[:, many.shape[1] // 2 - average.shape[1] : many.shape[1] // 2], average)
    assert (many[:, -average.shape[1] :] >= average).all(), "no maximum is below its average"


def test_features_of_a_clip_are_those_of_its_readings_averaged():
    torch.manual_seed(0)
    encoder, video = cvrl.Config.tiny().build().eval(), torch.rand(2, 3, 9, 32, 32) * 2 - 1
    once = cvrl.Config.tiny().model_copy(update={"phases": 1}).build().eval()
    once.load_state_dict(encoder.state_dict())
    readings = [once.embed(video[:, :, first:]) for first in range(encoder.config.phases)]
    assert torch.allclose(encoder.embed(video), torch.stack(readings).mean(0), atol=1e-5)
    assert torch.allclose(encoder.embed(video[:, :, :1]), once.embed(video[:, :, :1]), atol=1e-5)
