"""Laws of pyramidal flow matching: what a frame reads, that it never reads ahead, and what is kept of it."""

import pytest
import torch

from vidgen_core.chance import Chance
from vidgen_core.encoders.hashed_words import Config as HashedWords
from vidgen_core.errors import VidgenError
from vidgen_core.families import pyramid_flow
from vidgen_core.families._pyramid_history import History, Packing, levels_of, read_by
from vidgen_core.interfaces import Ask, Batch, Space
from vidgen_core.networks import mmdit
from vidgen_core.networks.mmdit import Frames
from vidgen_core.sampling import Guidance

SPACE = Space(channels=2, frames=4, height=16, width=16, text_dim=64)
ENCODER = HashedWords.tiny().build()
WORDS = ENCODER.encode(["a red square moves left", "a blue circle"])
SMALL = mmdit.Config(dim=24, heads=2, double_depth=1, single_depth=1)


def build(units=(1, 2, 1), space=SPACE, network=SMALL, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        family = pyramid_flow.Config(network=network, units=units, **changes).build(space)
        with torch.no_grad():
            for parameter in family.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return family.eval().requires_grad_(False)


def ask(**changes):
    plain = {"index": torch.arange(2), "shape": SPACE.shape, "text": WORDS, "steps": 3, "sampler": "euler"}
    return Ask(**{**plain, **changes})


def clip(count=2, space=SPACE):
    return torch.randn(count, *space.shape, generator=torch.Generator().manual_seed(1))


def test_a_frame_reads_a_history_that_is_coarser_the_older():
    assert read_by(5, 2) == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2)]
    assert read_by(5, 1) == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1)]
    assert read_by(2, 0) == [(0, 0), (1, 0)]
    assert read_by(1, 2) == [(0, 2)]
    assert read_by(0, 2) == []


@pytest.mark.parametrize("units", [(2, 3), (1, 2, 1), (1, 1, 2, 1)])
def test_a_packed_unit_and_each_copy_that_it_reads_attend_to_what_generation_reads(units):
    frames = 6
    packing = Packing(frames, units)
    chosen = torch.stack([torch.randperm(frames, generator=torch.Generator().manual_seed(s)) for s in range(4)])
    chosen = chosen[:, torch.arange(sum(units)) % frames]
    numbers = packing.numbers(chosen)
    sees = packing.sees(numbers)
    levels = [level for level, group in enumerate(packing.groups) for _ in group]
    slots = [slot for group in packing.groups for slot in group]
    for row in range(len(chosen)):
        for place, slot in enumerate(slots):
            number = int(numbers[row, place])
            seen = sorted(
                (int(numbers[row, other]), levels[other])
                for other in range(len(slots))
                if sees[row, place, other] and other != place
            )
            if number < 0:
                assert seen == []
                continue
            noisy = slot.unit is not None and slot.place == 0
            if noisy:
                assert number == chosen[row, slot.unit]
            # A copy reads what its frame would have read one stage earlier.
            assert seen == read_by(number, levels[place] if noisy else levels[place] - 1)


def recomputed(family, video, number, stage, x, time):
    """The output for a noisy frame without anything kept: its whole history as one sequence."""
    rows, count = len(x), len(family.stages)
    groups = []
    for at, level in read_by(number, stage.number):
        copy = levels_of(video[:, :, at : at + 1], count)[level]
        zero = torch.zeros(rows, 1)
        groups.append(Frames(copy, zero + at, zero, 2 ** (count - 1 - level), 1))
    groups.append(Frames(x, torch.full((rows, 1), float(number)), time[:, None], 2**stage.halvings, 1))
    sees = torch.ones(len(groups), len(groups), dtype=torch.bool).tril().expand(rows, -1, -1)
    return family.network(groups, *family.network.hear(WORDS, {}, rows), sees=sees)[0][-1]


@pytest.mark.parametrize("units", [(1, 1), (1, 2, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("single_depth", [0, 1])
def test_with_kept_keys_and_values_a_frame_is_what_it_is_without(units, single_depth):
    patch = 1 if len(units) == 4 else 2
    family = build(units, network=SMALL.model_copy(update={"single_depth": single_depth, "patch_px": patch}))
    video, rows = clip(), 2
    said = family.network.hear(WORDS, {}, rows)
    history = History(family.network, *said, len(units))
    for number in range(SPACE.frames):
        for stage in family.stages:
            side = SPACE.height >> stage.halvings
            x, time = torch.randn(rows, SPACE.channels, 1, side, side), torch.tensor([0.3, 0.7])
            frame = Frames(x, torch.full((rows, 1), float(number)), time[:, None], 2**stage.halvings, 1)
            kept = family.network([frame], said[0], history.read_by_next(stage.number))[0][0]
            plain = recomputed(family, video, number, stage, x, time)
            assert torch.allclose(kept, plain, atol=1e-5)
        history.add(video[:, :, number : number + 1])


@torch.no_grad()
def test_what_is_learned_is_what_generation_asks():
    """One clip's packed units, one by one, equal what the network says of them from the history of generation."""
    family = build(history_noise=0.0)
    batch, packing, frames = Batch(clip(), WORDS, torch.arange(2)), Packing(4, (4, 4, 4)), SPACE.frames
    chosen = torch.arange(frames).repeat(3).expand(2, -1)
    rests = torch.full(chosen.shape, 0.4)
    errors = family._errors(batch, Chance(0), packing, chosen, rests, torch.zeros(2))
    said = family.network.hear(WORDS, {}, 2)
    history = History(family.network, *said, 3)
    levels = levels_of(batch.video, 3)
    for number in range(frames):
        for stage in family.stages:
            slots = packing.groups[stage.number]
            side = SPACE.height >> stage.halvings
            noise = Chance(0).normal(f"noise{stage.number}", batch.index, (2, len(slots), side, side))
            data, own = levels[stage.number][:, :, [number]], noise[:, :, [len(slots) - frames + number]]
            start, end = stage.ends(data, own)
            time = stage.time(torch.tensor([[0.4], [0.4]]))
            frame = Frames(0.4 * start + 0.6 * end, torch.full((2, 1), float(number)), time, 2**stage.halvings, 1)
            output = family.network([frame], said[0], history.read_by_next(stage.number))[0][0]
            expected = ((output - data) ** 2).mean((1, 2, 3, 4))
            assert torch.allclose(errors[stage.number][:, number], expected, rtol=1e-4)
        history.add(batch.video[:, :, [number]])


@torch.no_grad()
def test_a_later_frame_never_changes_an_earlier_one():
    family = build()
    chosen = torch.arange(4).repeat(3).expand(2, -1)
    rests, packing, none = torch.full(chosen.shape, 0.4), Packing(4, (4, 4, 4)), torch.zeros(2)
    video = clip()
    other = video.clone()
    other[:, :, 2] += 1
    errors, changed = (
        family._errors(Batch(v, WORDS, torch.arange(2)), Chance(0), packing, chosen, rests, none)
        for v in (video, other)
    )
    for before, after in zip(errors, changed, strict=True):
        assert torch.equal(before[:, :2], after[:, :2])
        assert not torch.allclose(before[:, 2:], after[:, 2:])


def test_frames_are_learned_from_equally_often_and_every_sample_costs_the_same():
    packing = Packing(5, (2, 3))
    assert packing.sizes(8, 8) == [(4 + 2, 4, 4, 2), (3 + 3, 8, 8, 3)]
    order = Chance(0).uniform("units", torch.arange(400), (5,)).argsort(dim=1)
    found = packing.numbers(order)[:, [4, 5]]  # the two noisy units of the coarsest stage
    assert [(found == frame).sum().item() for frame in range(5)] == [pytest.approx(160, abs=40)] * 5


def test_held_out_looks_at_frames_all_over_the_clip():
    packing = Packing(5, (2, 3))
    looked_at = torch.stack([packing.spread_out((turn + 0.5) / 3) for turn in range(3)])
    assert looked_at.tolist() == [[0, 2, 0, 1, 3], [1, 3, 0, 2, 4], [2, 4, 1, 3, 4]]


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 6, 8, 24)])
def test_clips_of_other_shapes_are_learned_and_made(shape):
    family = build((2, 3))
    video = torch.randn(2, *shape)
    ((_, loss),) = family.losses(Batch(video, WORDS, torch.arange(2)), Chance(0))
    assert loss.isfinite()
    assert family.generate(ask(shape=shape), Chance(0)).shape == video.shape


def test_a_known_first_frame_is_kept_and_animated():
    family, known = build(), clip()
    mask = torch.zeros(2, 1, *SPACE.shape[1:], dtype=torch.bool)
    mask[:, :, :2] = True
    made = family.generate(ask(known=known, known_mask=mask), Chance(0))
    assert torch.equal(made[:, :, :2], known[:, :, :2])
    # What is made of the rest is what the same frames would have led to had they been generated.
    again = family.generate(ask(known=made, known_mask=mask), Chance(0))
    assert torch.equal(made, again)
    mask[0] = False
    mixed = family.generate(ask(known=known, known_mask=mask), Chance(0))
    assert torch.allclose(mixed[1], made[1], atol=1e-5)
    assert torch.allclose(mixed[0], family.generate(ask(), Chance(0))[0], atol=1e-5)


def test_a_known_part_of_a_frame_is_kept_and_the_rest_answers_to_it():
    family, known = build(), clip()
    mask = torch.zeros(2, 1, *SPACE.shape[1:], dtype=torch.bool)
    mask[..., 1:3, :10, :] = True
    made, other = (family.generate(ask(known=v, known_mask=mask), Chance(0)) for v in (known, -known))
    assert torch.equal(made.where(mask, torch.zeros(())), known.where(mask, torch.zeros(())))
    assert torch.equal(made[:, :, 0], other[:, :, 0])
    assert not torch.allclose(made[:, :, 1:].where(mask[:, :, 1:], 0), other[:, :, 1:].where(mask[:, :, 1:], 0))
    assert not torch.allclose(made[:, :, 2, 10:], other[:, :, 2, 10:])


def test_the_first_frame_is_led_farther():
    family = build()
    making = pyramid_flow._Making(family, ask(guidance=5.0), Chance(0))
    assert [making._scale(number) for number in range(3)] == [7, 5, 5]
    line = pyramid_flow._Making(family, ask(guidance=5.0, guiding=Guidance(last_scale=2.0)), Chance(0))
    assert [line._scale(number) for number in range(4)] == [5, 4, 3, 2]


def test_with_the_best_answer_every_frame_ends_on_the_only_clip_there_is():
    family = build((1, 1, 1))
    video = clip()
    levels = levels_of(video, 3)

    def known_data(groups, said, before=None, *, sees=None, keep=False):
        (group,) = groups
        level = {4: 0, 2: 1, 1: 2}[group.scale]
        at = int(group.numbers[0, 0])
        kept = mmdit.Kept(((torch.zeros(len(group.video), 2, 1, 12),) * 2,) * 2) if keep else None
        return [levels[level][:, :, at : at + 1]], kept

    family.network.forward = known_data
    for sampler in ("euler", "heun", "dpm_solver_2m"):
        made = family.generate(ask(text=None, steps=6, sampler=sampler), Chance(0))
        assert torch.allclose(made, video, atol=1e-4), sampler


def test_one_stage_is_rectified_flow_frame_by_frame():
    family = build((4,))
    (stage,) = family.stages
    assert (stage.start_noise, stage.end_noise) == (1.0, 0.0)
    assert family.held_out(Batch(clip(), WORDS, torch.arange(2)), Chance(0))["loss"].shape == (2,)
    assert family.generate(ask(), Chance(0)).isfinite().all()


def test_a_pyramid_that_does_not_fit_is_a_sentence():
    with pytest.raises(VidgenError, match="does not fit the samples"):
        pyramid_flow.Config(units=(1, 1, 1, 1, 1)).build(SPACE)


def test_the_paper_counts_its_tokens():
    """A frame at the finest stage of 31 latent frames of 96 x 160 reads and is 15,360 tokens at most."""
    # 3840 for itself, 3840 for the one before, 960 for the next, 240 for each of the 28 older ones.
    patches = [240 * 4**level for level in range(3)]
    total = patches[2] + sum(patches[level] for _, level in read_by(30, 2))
    assert total == 15_360
    assert 31 * patches[2] == 119_040


def test_the_mid_size_has_as_many_parameters_as_an_independent_prototype_of_it():
    with torch.device("meta"):
        family = pyramid_flow.Config.base().build(Space(channels=16, frames=5, height=32, width=32, text_dim=64))
    assert sum(value.numel() for value in family.parameters()) == pytest.approx(313e6, rel=0.02)
