"""Laws of the denoising families that not every family shares: weights, preconditioning, known frames, couplings."""

import itertools

import pytest
import torch

from vidgen_core.chance import Chance
from vidgen_core.errors import VidgenError
from vidgen_core.families import diffusion, flow_matching
from vidgen_core.interfaces import Ask, Batch, Space, Text
from vidgen_core.networks import factorized_dit
from vidgen_core.objectives.couplings import nearest
from vidgen_core.paths import expand_times
from vidgen_core.predictions import target
from vidgen_core.sampling import Guidance

SPACE = Space(channels=2, frames=4, height=4, width=4, text_dim=0)
NETWORK = factorized_dit.Config(dim=32, depth=1, heads=2)
T = torch.tensor([0.05, 0.3, 0.6, 0.95])


def built(**settings):
    torch.manual_seed(0)
    return diffusion.Config(network=NETWORK, **settings).build(SPACE)


def batch(count=4):
    video = torch.randn(count, *SPACE.shape, generator=torch.Generator().manual_seed(1))
    return Batch(video, None, torch.arange(count))


@pytest.mark.parametrize("prediction", ["noise", "data", "v"])
def test_with_min_snr_the_loss_is_the_bounded_ratio_on_the_datas_error_whatever_is_predicted(prediction):
    family = built(schedule="scaled_linear", prediction=prediction, min_snr=5.0)
    video, noise = torch.randn(2, 4, *SPACE.shape, generator=torch.Generator().manual_seed(2))
    times = expand_times(T, video)
    x = family.path.mix(video, noise, times)
    right = {"noise": noise, "data": video, "v": family.path.alpha(times) * noise - family.path.sigma(times) * video}
    off = right[prediction] + 0.1
    error = (family.read(off, x, T).data - video).pow(2).flatten(1).mean(1)
    ratio = (family.path.alpha(T) / family.path.sigma(T)) ** 2
    assert torch.allclose(family.weight(T) * 0.01, ratio.clamp_max(5.0) * error, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["plain", "projected", "zero_star"])
def test_what_guidance_makes_does_not_depend_on_what_the_network_puts_out(variant):
    """The same knowledge said as noise, data and v; the empty output scales velocities, a projection turns data."""
    like = torch.randn(2, *SPACE.shape, generator=torch.Generator().manual_seed(3))
    text = Text(torch.ones(2, 1, 1), torch.ones(2, 1, dtype=torch.bool))
    made = {}
    for kind, guiding in [*((kind, variant) for kind in ("noise", "data", "v")), ("data", "plain")]:
        family = built(schedule="scaled_linear", prediction=kind)

        def output(x, t, text, _, path=family.path, kind=kind):
            said = text.mask.any(1)[:, None, None, None, None]
            times, data = expand_times(t, x), torch.where(said, like[:1], 0.5 * like[1:]) + 0.1 * x
            return target(kind, path=path, data=data, noise=(x - path.alpha(times) * data) / path.sigma(times), t=times)

        family.output = output
        how = {"guidance": 3.0, "guiding": Guidance(variant=guiding), "steps": 5, "sampler": "heun"}
        made[kind, guiding] = family.generate(Ask(torch.arange(2), SPACE.shape, text, **how), Chance(0))
    assert torch.allclose(made["noise", variant], made["data", variant], atol=1e-3)
    assert torch.allclose(made["v", variant], made["data", variant], atol=1e-3)
    assert torch.allclose(made["data", "plain"], made["data", variant], atol=1e-3) == (variant == "plain")


def test_levels_are_drawn_equally_often_and_none_is_clean():
    times = built().draw_times(Chance(0), torch.arange(4000))
    assert times.min() >= 1 / 1000
    assert times.max() <= 1
    assert torch.allclose(times.sort().values, torch.linspace(0, 1, 4000), atol=0.03)
    assert torch.allclose(times * 1000, (times * 1000).round(), atol=1e-3)


def test_edms_network_meets_unit_variance_and_errors_of_it_count_alike_at_all_levels():
    scaled = diffusion.Preconditioning(0.5)
    data = 0.5 * torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(200_000, generator=torch.Generator().manual_seed(1))
    for sigma in torch.tensor([0.01, 0.5, 3.0, 60.0]):
        x = data + sigma * noise
        wanted = (data - scaled.keep(sigma) * x) / scaled.out(sigma)
        assert (scaled.into(sigma) * x).std().item() == pytest.approx(1, abs=0.01)
        assert wanted.std().item() == pytest.approx(1, abs=0.01)
    family = built(schedule="edm", data_std=0.5)
    sigma = family.path.sigma(T)
    assert torch.allclose(family.weight(T), (sigma**2 + 0.25) / (0.5 * sigma) ** 2, rtol=1e-4)


def test_an_untrained_edm_predicts_the_best_linear_guess():
    family = built(schedule="edm", data_std=0.5).requires_grad_(False)
    x, sigma = batch().video, family.path.sigma(expand_times(T, batch().video))
    assert torch.allclose(family.output(x, T, None), 0.25 / (sigma**2 + 0.25) * x, atol=1e-5)


@torch.no_grad()
def test_edm_learns_and_draws_the_same_in_any_unit_of_the_data():
    small, large = (built(schedule="edm", data_std=std) for std in (0.5, 2.0))
    for one, other in zip(small.parameters(), large.parameters(), strict=True):
        other.copy_(one.add_(0.1 * torch.randn_like(one)))
    scaled = Batch(4 * batch().video, None, batch().index)
    for one, other in zip(small.losses(batch(), Chance(0)), large.losses(scaled, Chance(0)), strict=True):
        assert other[1].item() == pytest.approx(one[1].item(), rel=1e-4)
    times = [list(family.held_out_times.values()) for family in (small, large)]
    assert times[0] == pytest.approx(times[1], rel=1e-5)
    ask = Ask(torch.arange(2), SPACE.shape, steps=4)
    drawn = [family.generate(ask, Chance(0)) for family in (small, large)]
    assert torch.allclose(drawn[1], 4 * drawn[0], rtol=1e-3, atol=1e-3)


def test_the_loss_of_a_network_that_says_nothing_is_the_variance_of_what_it_should_say():
    plain = built(prediction="noise", min_snr=None)
    loss = next(iter(plain.losses(Batch(torch.zeros(512, *SPACE.shape), None, torch.arange(512)), Chance(0))))[1]
    assert loss.item() == pytest.approx(1.0, abs=0.03)
    flow = flow_matching.Config(network=NETWORK, prediction="velocity", loss_on="velocity").build(SPACE)
    loss = next(iter(flow.losses(Batch(torch.randn(512, *SPACE.shape), None, torch.arange(512)), Chance(0))))[1]
    assert loss.item() == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("settings", [{"prediction": "noise"}, {"schedule": "edm"}])
def test_a_last_level_without_data_is_refused_where_it_cannot_be_learned(settings):
    with pytest.raises(VidgenError, match="nothing is left"):
        diffusion.Config(zero_terminal=True, **settings)


def test_only_levels_can_be_shifted():
    with pytest.raises(VidgenError, match="no levels"):
        diffusion.Config(schedule="edm", snr_shift=2.0)


FAMILIES = {
    "diffusion": lambda shown: diffusion.Config(network=NETWORK, shown_frames=shown),
    "edm": lambda shown: diffusion.Config(network=NETWORK, shown_frames=shown, schedule="edm"),
    "flow_matching": lambda shown: flow_matching.Config(network=NETWORK, shown_frames=shown),
}


@pytest.mark.parametrize("name,shown", [*itertools.product(FAMILIES, [0.0, 0.5])])
@torch.no_grad()
def test_known_elements_come_back_exactly_and_the_rest_answers_to_them(name, shown):
    torch.manual_seed(0)
    family = FAMILIES[name](shown).build(SPACE)
    for parameter in family.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    known = batch(1).video
    mask = torch.zeros(1, 1, 4, 4, 4, dtype=torch.bool)
    mask[:, :, 0] = mask[:, :, 2, :2] = True

    def made(values):
        ask = Ask(torch.arange(1), SPACE.shape, steps=4, sampler="ddim", known=values, known_mask=mask)
        return family.generate(ask, Chance(0))

    one, other = made(known), made(-known)
    hold = mask.expand(one.shape)
    assert torch.equal(one[hold], known[hold])
    assert not torch.allclose(one[~hold], other[~hold])


def test_an_untrained_velocity_is_wrong_by_the_velocity_in_each_frame_whatever_its_time():
    family = flow_matching.Config(network=NETWORK, own_times=1.0, prediction="velocity").build(SPACE)
    video = batch().video
    noise, times = torch.randn_like(video), torch.rand(4, SPACE.frames)
    errors = family._errors(batch(), times, noise)
    expected = ((noise - video) ** 2).transpose(1, 2).flatten(2).mean(2)  # an untrained network says nothing
    assert torch.allclose(errors, expected, rtol=1e-4)


def test_optimal_pairs_are_the_nearest_and_a_permutation():
    data, noise = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    order = nearest(noise, data)
    assert sorted(order.tolist()) == list(range(6))
    best = min(itertools.permutations(range(6)), key=lambda o: (noise[list(o)] - data).pow(2).sum().item())
    assert order.tolist() == list(best)
    assert torch.equal(nearest(data.flip(0), data), torch.arange(5, -1, -1))


def test_optimal_coupling_straightens_what_is_learned():
    independent = flow_matching.Config(network=NETWORK).build(SPACE)
    optimal = flow_matching.Config(network=NETWORK, coupling="optimal").build(SPACE)
    noise = torch.randn(4, *SPACE.shape)
    assert torch.equal(independent.paired(noise, batch().video), noise)
    paired = optimal.paired(noise, batch().video)
    assert (paired - batch().video).pow(2).sum() < (noise - batch().video).pow(2).sum()


@torch.no_grad()
@pytest.mark.parametrize("schedule", ["cosine", "edm"])
def test_held_out_times_lie_where_the_model_learns(schedule):
    family = built(schedule=schedule)
    drawn = family.draw_times(Chance(0), torch.arange(4000))
    shares = [(drawn <= time).float().mean().item() for time in family.held_out_times.values()]
    assert shares == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9], abs=0.03)
    assert set(family.held_out(batch(), Chance(0))) == {"loss", *family.held_out_times}
