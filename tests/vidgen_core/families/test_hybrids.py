"""Laws of families that wrap another one and add a critic."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vidgen_core import weights
from vidgen_core.applications.generator import Card, Generator, assemble
from vidgen_core.chance import Chance
from vidgen_core.codecs.identity import Config as Identity
from vidgen_core.encoders.hashed_words import Config as HashedWords
from vidgen_core.errors import VidgenError
from vidgen_core.families import diffusion, diffusion_gan, flow_gan, flow_matching, gan, normalizing_flow, vae_gan
from vidgen_core.families._wrapped import able
from vidgen_core.interfaces import Ask, Batch, Space
from vidgen_core.networks import tarflow
from vidgen_core.networks.conv_gan import CriticSizes
from vidgen_core.sampling import Sampling
from vidgen_core.training import loop
from vidgen_core.training.place import Place
from vidgen_core.training.settings import TrainSettings

SPACE = Space(channels=3, frames=2, height=4, width=4, text_dim=64)
WORDS = HashedWords.tiny().build().encode(["a red square", "a blue circle"] * 2)
CRITIC = CriticSizes(widths=(8, 8), text_dim=8)
VAE = {"network": {"dim": 32, "encoder_depth": 1, "decoder_depth": 1, "heads": 2, "codes": 2, "code_dim": 4}}
FLOW = {"network": {"dim": 32, "blocks": 2, "depth": 1, "heads": 2}}
MATCHING = {"network": {"dim": 32, "depth": 1, "heads": 2}}
DIFFUSION = {"network": {"kind": "factorized_dit", "dim": 32, "depth": 1, "heads": 2}}
TEACHERS = {"flow_matching": MATCHING, "diffusion": DIFFUSION}


def built(config, scale=0.05):
    torch.manual_seed(0)
    family = config.build(SPACE)
    with torch.no_grad():
        for parameter in family.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return family


def batch(count=4):
    video = torch.randn(count, *SPACE.shape, generator=torch.Generator().manual_seed(1))
    return Batch(video, WORDS if count == 4 else None, torch.arange(count))


def student(teacher="flow_matching", **changes):
    chosen = {"name": teacher, "options": TEACHERS[teacher]} if isinstance(teacher, str) else teacher
    return diffusion_gan.Config.model_validate({"teacher": chosen, "critic": CRITIC, **changes})


def vae_with(**changes):
    return vae_gan.Config.model_validate({"vae": {"name": "vae", "options": VAE}, "critic": CRITIC, **changes})


def flow_with(**changes):
    chosen = {"name": "normalizing_flow", "options": FLOW}
    return flow_gan.Config.model_validate({"flow": chosen, "critic": CRITIC, **changes})


def test_what_lacks_the_capability_is_refused_with_those_that_have_it():
    for config, field, allowed in (
        (vae_gan.Config, "vae", "vae"), (flow_gan.Config, "flow", "normalizing_flow"),
        (diffusion_gan.Config, "teacher", "diffusion, flow_matching"),
    ):  # fmt: skip
        with pytest.raises(VidgenError, match="cannot be wrapped") as error:
            config.model_validate({field: "gan:tiny"})
        assert allowed in str(error.value)


@pytest.mark.parametrize("name", able("has_denoiser"))
def test_a_student_of_every_family_that_may_teach_learns_and_draws(name):
    family = diffusion_gan.Config.model_validate({"teacher": f"{name}:tiny", "critic": CRITIC}).build(SPACE)
    settings = TrainSettings(steps=1, batch=4)
    (step,) = loop.run(loop.State(family, settings), [[batch()]], chance=Chance(0), settings=settings, place=Place())
    assert [turn.stepped for turn in step.turns] == [True, True]
    with torch.no_grad():
        assert family.generate(Ask(torch.arange(2), SPACE.shape), Chance(0)).isfinite().all()


def test_a_choice_is_written_out_so_that_a_later_version_builds_the_same():
    config = diffusion_gan.Config.model_validate({"teacher": "flow_matching:tiny"})
    assert config.teacher.size is None
    assert config.teacher.options["time_shift"] == 5.0
    assert diffusion_gan.Config.model_validate(config.model_dump(mode="json")) == config


@torch.no_grad()
@pytest.mark.parametrize("hybrid", ["vae", "flow"])
def test_wrapped_it_says_of_data_and_draws_what_it_says_and_draws_alone(hybrid):
    family = built({"vae": vae_with, "flow": flow_with}[hybrid]()).eval()
    alone = getattr(family, hybrid)
    wrapped, plain = (one.held_out(batch(), Chance(0)) for one in (family, alone))
    assert all(torch.equal(wrapped[name], value) for name, value in plain.items())
    ask = Ask(torch.arange(4), SPACE.shape, WORDS)
    assert torch.equal(family.generate(ask, Chance(0)), alone.generate(ask, Chance(0)))
    if hybrid == "flow":
        assert torch.allclose(wrapped["bits_per_dimension"] * math.log(2), wrapped["loss"])


@pytest.mark.parametrize("loss", ["hinge", "non_saturating", "least_squares", "wasserstein"])
def test_the_held_out_loss_of_a_critics_family_is_what_its_generator_minimizes(loss):
    family = built(
        gan.Config.model_validate({"network": {"noise_dim": 4, "text_dim": 8, "widths": (8, 8)}, "loss": loss})
    )
    learned = dict(family.losses(batch(), Chance(0)))["generator"]
    held = family.held_out(batch(), Chance(0).within("generator"))
    assert held["loss"].mean().item() == pytest.approx(learned.item(), rel=1e-5)


def test_the_critics_judgment_never_reaches_the_encoder():
    family = built(vae_with(adversarial_weight=3.0))
    encoder, decoder = (family.players()[name].parameters.values() for name in ("encoder", "decoder"))
    losses = dict(family.losses(batch(), Chance(0)))
    assert losses["encoder"].item() == dict(built(vae_with()).losses(batch(), Chance(0)))["encoder"].item()
    for name in ("decoder", "critic"):
        assert all(g is None for g in torch.autograd.grad(losses[name], encoder, allow_unused=True, retain_graph=True))
    assert all(g is None for g in torch.autograd.grad(losses["critic"], decoder, allow_unused=True, retain_graph=True))


def test_likeness_is_measured_where_the_critic_looks():
    """Without pixels, two videos that the critic's first map cannot tell apart are alike."""
    family = built(vae_with(pixel_weight=0.0, feature_map=0))
    video, map_of = batch().video, family._measured
    assert family._unlikeness(video, video + 1, map_of(video), map_of(video)).abs().max() == 0
    assert (family._unlikeness(video, video, map_of(video), map_of(video + 1)) > 0).all()
    spread = torch.autograd.grad(dict(family.losses(batch(), Chance(0)))["decoder"], family.vae.log_variance)
    assert spread[0].abs() > 0


def after_three_steps(family):
    settings = TrainSettings(steps=3, batch=4, learning_rate=1e-3, warmup_steps=0)
    state = loop.State(family, settings)
    list(loop.run(state, [[batch()] for _ in range(3)], chance=Chance(0), settings=settings, place=Place()))
    return torch.cat([value.detach().flatten() for value in getattr(family, "flow", family).parameters()])


def test_without_weight_for_the_critic_a_flow_learns_bit_for_bit_as_alone():
    torch.manual_seed(0)
    plain = normalizing_flow.Config.model_validate(FLOW).build(SPACE)
    torch.manual_seed(0)
    hybrid = flow_with(adversarial_weight=0.0).build(SPACE)
    start = torch.cat([value.detach().flatten() for value in plain.parameters()]).clone()
    learned = after_three_steps(plain)
    assert torch.equal(learned, after_three_steps(hybrid))
    assert not torch.equal(learned, start)
    torch.manual_seed(0)
    assert not torch.equal(learned, after_three_steps(flow_with(adversarial_weight=1.0).build(SPACE)))


def test_a_drawn_sample_is_the_inverse_and_its_gradient_that_of_the_inverse():
    torch.manual_seed(0)
    network = tarflow.Config(dim=32, blocks=3, depth=1, heads=2).build(SPACE)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    noise = batch().video.requires_grad_()
    toward = torch.randn(4, *SPACE.shape, generator=torch.Generator().manual_seed(2))

    def gradient(video):
        found = torch.autograd.grad((video * toward).sum(), [noise, *network.parameters()], allow_unused=True)
        return torch.cat([one.flatten() for one in found if one is not None])

    inverse = network.inverse(noise, WORDS)
    exact, errors = gradient(inverse), []
    for iterations in (0, 2, 7):  # of 8 patches
        made = network.drawn(noise, WORDS, iterations=iterations)
        assert torch.allclose(made, inverse, atol=1e-5)
        errors.append(((gradient(made) - exact).norm() / exact.norm()).item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("teacher", TEACHERS)
def test_a_student_begins_as_its_teacher(tmp_path, teacher):
    folder, theirs = generator_at(tmp_path, teacher)
    family = built(student(teacher, teacher_weights=str(folder), steps=6, step="ddim"))
    family.begin()
    ask = Ask(torch.arange(4), SPACE.shape, WORDS, steps=6, sampler="ddim")
    assert torch.equal(family.eval().generate(ask, Chance(0)), theirs.generate(ask, Chance(0)))
    assert torch.equal(family.teacher.generate(ask, Chance(0)), theirs.generate(ask, Chance(0)))


@torch.no_grad()
def test_a_trained_student_needs_its_teachers_folder_no_more(tmp_path):
    folder, _ = generator_at(tmp_path, "flow_matching")
    family = built(student(teacher_weights=str(folder)))
    family.begin()
    made, _ = generator_at(tmp_path / "student", "diffusion_gan", family)
    folder.rename(tmp_path / "gone")
    assert Generator.load(made).videos(["a red square"]).shape == (1, 2, 4, 4, 3)


def generator_at(root, name, family=None):
    """A generator's folder, and the family in it."""
    if family is None:
        torch.manual_seed(3)
        made = {"flow_matching": flow_matching.Config, "diffusion": diffusion.Config}[name]
        family = built(made.model_validate(TEACHERS[name])).eval()
    weights.save(root / "family", family.state_dict(), {})
    weights.save(root / "codec", Identity().build().state_dict(), {"name": "identity", "config": {}})
    card = Card(
        family=name, config=family.config.model_dump(mode="json"), space=SPACE, text="hashed_words", frame_rate="8",
        text_config=HashedWords.tiny().model_dump(mode="json"), sampling=Sampling(steps=2),
    )  # fmt: skip
    assemble(root / "model", card, family_dir=root / "family", codec_dir=root / "codec")
    return root / "model", family


def test_a_teacher_that_does_not_fit_is_a_sentence_with_the_next_move(tmp_path):
    folder, _ = generator_at(tmp_path, "flow_matching")
    with pytest.raises(VidgenError, match="no trained teacher") as error:
        student(teacher_weights=str(tmp_path / "nowhere")).build(SPACE).begin()
    assert "vidgen run" in str(error.value)
    with pytest.raises(VidgenError, match="another family") as error:
        student("diffusion", teacher_weights=str(folder)).build(SPACE).begin()
    assert "family.teacher=flow_matching" in str(error.value)
    other = {"name": "flow_matching", "options": {"network": {"dim": 48, "depth": 1}}}
    with pytest.raises(VidgenError, match="built otherwise"):
        student(teacher=other, teacher_weights=str(folder)).build(SPACE).begin()
    with pytest.raises(VidgenError, match="another space"):
        student(teacher_weights=str(folder)).build(SPACE.model_copy(update={"frames": 3})).begin()


@torch.no_grad()
@pytest.mark.parametrize("asked,taken", [(1, 1), (2, 2), (4, 4), (12, 4)])
def test_it_draws_in_the_steps_that_were_asked_for_and_in_no_more_than_it_learned(asked, taken):
    family, times = built(student()).eval(), []
    output = family.student.output

    def counted(x, t, *rest):
        times.append(t[0].item())
        return output(x, t, *rest)

    family.student.output = counted
    family.generate(Ask(torch.arange(2), SPACE.shape, None, steps=asked, guidance=3.0), Chance(0))
    assert len(times) == taken
    learned = family.student.times(4).float()
    assert all(torch.isclose(learned, torch.tensor(time)).any() for time in times)


@torch.no_grad()
@pytest.mark.parametrize("step", ["ddpm", "ddim"])
@pytest.mark.parametrize("teacher", TEACHERS)
def test_the_critic_sees_pairs_of_the_same_times_and_real_ones_lie_on_the_path(teacher, step):
    family, seen = built(student(teacher, step=step, mismatch=0.0, r1=0.0)), []
    family.critic.first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    data = Batch(torch.full((512, *SPACE.shape), 0.7), None, torch.arange(512))
    next(family.losses(data, Chance(0)))
    real, made = seen
    channels = SPACE.channels
    assert torch.equal(real[:, channels:], made[:, channels:])  # where they come from, and when
    t = real[:, -1, 0, 0, 0]
    grid, path = family.student.times(4).float(), family.path
    for number in range(4):
        now, then = grid[number], grid[number + 1]
        rows = torch.isclose(t, now)
        assert 80 < rows.sum() < 180
        for values, time in ((real[rows, channels:-1], now), (real[rows, :channels], then)):
            alpha, sigma = path.alpha(time), path.sigma(time)
            size = (alpha**2 + sigma**2).sqrt()
            noise = values * size - alpha * 0.7
            assert noise.std().item() == pytest.approx(sigma.item(), rel=0.03, abs=1e-5)
            assert noise.mean().item() == pytest.approx(0, abs=0.03)


def test_a_critic_that_says_the_same_of_everything_teaches_nothing():
    family = built(student())
    family.critic.score = lambda seen, _: 0 * seen.flatten(1).sum(1)
    loss = dict(family.losses(batch(), Chance(0)))["generator"]
    assert all((g == 0).all() for g in torch.autograd.grad(loss, list(family.student.parameters())))


def test_work_counts_the_teachers_passes_and_its_weights_stay():
    family = built(student(teacher_weights="somewhere"))
    assert not any(value.requires_grad for value in family.teacher.parameters())
    players = family.players()
    with FlopCounterMode(display=False) as counted:
        counted.mod_tracker.__exit__()
        for player, loss in family.losses(batch(), Chance(0)):
            loss.backward(inputs=list(players[player].parameters.values()), retain_graph=True)
        total = counted.get_total_flops()
        counted.mod_tracker.__enter__()
    assert 4 * family.work(SPACE.shape, WORDS.tokens.shape[1]).flops == pytest.approx(total, rel=0.02)


def test_a_student_with_a_teacher_goes_slower_and_all_critics_have_moments_of_their_own():
    taught = built(student(teacher_weights="somewhere", student_rate=0.25, critic_rate=0.5, critic_betas=(0.1, 0.9)))
    alone = built(student(student_rate=0.25))
    rates = [family.players()["generator"].relative_rate for family in (taught, alone)]
    assert rates == [0.25, 1.0]
    critic = taught.players()["critic"]
    assert (critic.relative_rate, critic.betas) == (0.5, (0.1, 0.9))
    assert taught.players()["generator"].betas is None


def test_the_teacher_draws_the_student_to_what_it_says():
    family = built(student(teacher_weights="somewhere", distillation_weight=5.0, teacher_guidance=1.0))
    data = batch().video.requires_grad_()
    distance = family._distance(family.teacher, data, batch(), Chance(0))
    (gradient,) = torch.autograd.grad(distance.sum(), data)
    closer = family._distance(family.teacher, (data - 0.5 * gradient).detach(), batch(), Chance(0))
    assert (closer < distance).all()


@torch.no_grad()
def test_a_flow_that_a_critic_judged_is_drawn_without_guidance_and_one_alone_with_it():
    def drawn(weight, guidance):
        torch.manual_seed(0)
        family = built(flow_with(adversarial_weight=weight))
        for value in family.parameters():
            value.add_(0.05 * torch.randn_like(value))
        text = batch().text
        return family.generate(Ask(torch.arange(len(text.mask)), SPACE.shape, text, guidance=guidance), Chance(0))

    assert torch.equal(drawn(0.1, 3.0), drawn(0.1, 1.0))
    assert not torch.equal(drawn(0.0, 3.0), drawn(0.0, 1.0))
