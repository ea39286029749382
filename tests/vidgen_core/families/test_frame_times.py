"""Laws of frames that have noise times of their own."""

import pytest
import torch

from tests.vidgen_core.families.conftest import SPACE
from vidgen_core.chance import Chance
from vidgen_core.errors import VidgenError
from vidgen_core.families import diffusion, flow_matching
from vidgen_core.interfaces import Ask, Batch
from vidgen_core.networks import factorized_dit

SMALL = factorized_dit.Config(dim=16, depth=1, heads=2)
FAMILIES = {
    "flow": flow_matching.Config(network=SMALL),
    "v": diffusion.Config(network=SMALL),
    "edm": diffusion.Config(network=SMALL, schedule="edm"),
}


@pytest.fixture(params=FAMILIES)
def made(request):
    def build(**changes):
        torch.manual_seed(0)
        family = FAMILIES[request.param].model_copy(update=changes).build(SPACE)
        with torch.no_grad():
            for parameter in family.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        return family

    return build


def batch(count=4):
    video = torch.randn(count, *SPACE.shape, generator=torch.Generator().manual_seed(1))
    return Batch(video, None, torch.arange(count))


def loss_of(family, samples, seed=0):
    ((_, loss),) = family.losses(samples, Chance(seed))
    return loss


def test_each_frame_has_a_time_drawn_like_a_samples_in_the_asked_share(made):
    family, samples = made(own_times=0.5), Batch(torch.zeros(2000, *SPACE.shape), None, torch.arange(2000))
    t = family.draw_times(Chance(0), samples.index)
    times, shown = family._frame_times(t, Chance(0), samples)
    own = (times != times[:, :1]).any(1)
    assert own.float().mean().item() == pytest.approx(0.5, abs=0.04)
    assert torch.equal(times[~own], t[~own, None].expand(-1, SPACE.frames))
    assert not shown.any()
    for frame in range(SPACE.frames):
        quantiles = torch.tensor([0.2, 0.5, 0.8])
        assert torch.allclose(times[own][:, frame].quantile(quantiles), t.quantile(quantiles), rtol=0.25, atol=0.03)


def test_frames_of_one_time_cost_what_the_sample_costs(made, monkeypatch):
    plain, own = made(), made(own_times=1.0)
    t = plain.draw_times(Chance(0), batch().index)
    monkeypatch.setattr(own, "_frame_times", lambda t, *_: (t[:, None].expand(-1, 3), torch.zeros(4, 3, dtype=bool)))
    assert torch.allclose(loss_of(own, batch()), loss_of(plain, batch()), rtol=1e-5)
    assert t.shape == (4,)


def test_a_shown_frame_is_told_and_costs_nothing(made):
    family = made(shown_frames=1.0, own_times=0.5)
    samples = batch()
    _, shown = family._frame_times(family.draw_times(Chance(0), samples.index), Chance(0), samples)
    loss = loss_of(family, samples)
    assert loss.isfinite()
    loss.backward()
    assert all(value.grad is None or value.grad.isfinite().all() for value in family.parameters())
    # A network that puts out more for shown frames alone has the same loss.
    output = family.output
    family.output = lambda *given: output(*given) + 7.0 * shown[:, None, :, None, None]
    assert torch.allclose(loss_of(family, samples), loss, rtol=1e-6)


def test_a_network_of_frame_times_is_shown_known_frames_clean(made):
    values, mask = torch.randn(1, *SPACE.shape), torch.zeros(1, 1, *SPACE.shape[1:], dtype=torch.bool)
    mask[:, :, 0] = True
    ask = Ask(index=torch.arange(1), shape=SPACE.shape, steps=2, sampler="euler", known=values, known_mask=mask)
    with torch.no_grad():
        replaced, own = (made(own_times=share).generate(ask, Chance(0)) for share in (0.0, 0.5))
    assert torch.allclose(own[:, :, 0], values[:, :, 0], atol=1e-6)
    assert not torch.allclose(own, replaced)


def test_frames_that_share_tokens_cannot_have_times_of_their_own():
    network = factorized_dit.Config(dim=16, depth=1, heads=2, patch_frames=3)
    with pytest.raises(VidgenError, match="share tokens"):
        flow_matching.Config(network=network, own_times=0.1).build(SPACE)
