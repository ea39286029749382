import itertools
from functools import partial

import pytest
import torch

from vidgen_core.chance import Chance
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Player
from vidgen_core.training import loop
from vidgen_core.training.order import Stream
from vidgen_core.training.place import Place
from vidgen_core.training.samples import Samples

HERE = Place()


class Run:
    """A learner in the loop, without files but its data."""

    def __init__(self, cases, data, *, name="toy", config=None, **changes):
        job = cases.job(data, data.files[0].parent / "work", name=name, config=config, **changes)
        self.settings, self.chance = job.settings, Chance(job.settings.seed)
        self.state = loop.State(job.build(), self.settings)
        samples = Samples(data, "train", text=name == "toy")
        self.stream = Stream(samples, self.settings, HERE, self.chance)

    def steps(self, count):
        batches = (self.stream.pieces(step) for step in range(self.state.step, self.state.step + count))
        return loop.run(self.state, batches, chance=self.chance, settings=self.settings, place=HERE)

    def weights(self):
        return {name: value.detach().clone() for name, value in self.state.learner.named_parameters()}

    def everything(self):
        """All that a step may change, flat."""
        return [tensor.detach().clone() for tensor in self.state.tensors().values()]


def same(one, other):
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("pieces", [2, 4])
@pytest.mark.parametrize("name", ["toy", "duel"])
def test_accumulating_pieces_equals_the_whole_batch(data, cases, name, pieces):
    # Statistics over a batch and dropout see pieces, so they are off.
    config = {"dropout": 0.0} if name == "toy" else {"normalize": False}
    whole, cut = (Run(cases, data, name=name, config=config, batch=8, accumulate=k) for k in (1, pieces))
    for one, other in zip(whole.steps(6), cut.steps(6), strict=True):
        assert [turn.loss for turn in other.turns] == pytest.approx([turn.loss for turn in one.turns], rel=1e-4)
    for weight, expected in zip(cut.weights().values(), whole.weights().values(), strict=True):
        assert torch.allclose(weight, expected, rtol=1e-3, atol=1e-5)


def test_the_average_follows_its_closed_form(data, cases):
    run = Run(cases, data, ema_decay=0.6)
    average = run.weights()
    for number, _ in enumerate(run.steps(8)):
        decay = min(0.6, (1 + number) / (10 + number))
        average = {name: decay * average[name] + (1 - decay) * weight for name, weight in run.weights().items()}
    kept = run.state.players["toy"].average
    assert all(torch.allclose(kept[name], value, atol=1e-6) for name, value in average.items())
    live = run.weights()
    with run.state.averaged() as learner:
        inside = {name: value.detach().clone() for name, value in learner.named_parameters()}
    assert all(torch.allclose(inside[name], value, atol=1e-6) for name, value in average.items())
    assert all(torch.equal(run.weights()[name], value) for name, value in live.items())


def test_a_step_that_is_not_finite_changes_nothing_but_the_count(data, cases):
    # Batch 4: positions 8 to 11 are step 3.
    run = Run(cases, data, config={"nan_start": 9, "nan_stop": 10})
    states, skipped = [], []
    for step in run.steps(4):
        states.append(run.everything())
        skipped.append((run.state.skipped, run.state.skipped_in_row, step.turns[0].stepped))
    assert skipped == [(0, 0, True), (0, 0, True), (1, 1, False), (1, 0, True)]
    assert not same(states[0], states[1])
    assert same(states[1], states[2])
    assert not same(states[2], states[3])
    assert all(value.isfinite().all() for value in states[3])


def test_a_piece_that_is_not_finite_spoils_its_step_only(data, cases):
    run = Run(cases, data, config={"nan_start": 3, "nan_stop": 4}, accumulate=4)
    assert [step.turns[0].stepped for step in run.steps(3)] == [False, True, True]


def test_many_steps_in_a_row_that_are_not_finite_end_the_run(data, cases):
    run = Run(cases, data, config={"nan_start": 4, "nan_stop": 400}, nonfinite_limit=3)
    with pytest.raises(VidgenError, match="3 steps in a row") as raised:
        list(run.steps(10))
    assert "learning_rate" in str(raised.value)
    assert run.state.step == 4


def test_an_infinite_gradient_of_a_finite_loss_is_caught(data, cases):
    run = Run(cases, data)
    for step in run.steps(3):
        if step.number == 1:
            run.state.learner.net[0].weight.register_hook(lambda gradient: gradient * float("inf"))
            before = run.everything()
        else:
            assert not step.turns[0].stepped
            assert same(run.everything(), before)


def test_a_player_meets_the_others_as_they_are_after_their_turn(data, cases):
    run = Run(cases, data, name="duel", accumulate=2)
    turns = [turn.player for step in run.steps(1) for turn in step.turns]
    assert turns == ["critic", "critic", "generator"]
    # Two pieces look at the same critic in each turn, and at another one in the next.
    seen = run.state.learner.seen_critic
    assert seen[0::2] == seen[1::2]
    assert len(set(seen)) == 3


def test_a_loss_moves_its_own_player_only(data, cases):
    run = Run(cases, data, name="duel", warmup_steps=0)
    before = run.weights()
    players = run.state.players
    games = run.state.learner.losses(run.stream.pieces(0)[0].to("cpu"), run.chance)
    for player, loss in itertools.islice(games, 3):
        other = "critic" if player == "generator" else "generator"
        players[player].learn(loss)
        turn = players[player].turn(0.1, HERE)
        assert turn.stepped
        after = run.weights()
        assert all(torch.equal(after[n], before[n]) for n in before if n.startswith(other))
        assert any(not torch.equal(after[n], before[n]) for n in before if n.startswith(player))
        before = after


def test_long_gradients_are_cut_to_the_limit(data, cases):
    run = Run(cases, data, clip_norm=1e-3)
    player = run.state.players["toy"]
    taken = []
    for one, _ in player._optimizers:
        one.register_step_pre_hook(
            lambda *_: taken.append(torch.cat([w.grad.flatten() for w in player.weights.values()]).norm().item())
        )
    norms = [step.turns[0].norm for step in run.steps(3)]
    assert all(norm > 1e-3 for norm in norms)
    assert taken == pytest.approx([1e-3] * 3, rel=1e-4)


def test_a_player_that_asks_for_moments_of_its_own_has_them_and_no_other(data, cases):
    run = Run(cases, data, name="duel", betas=(0.8, 0.9))
    for name, forgets in (("critic", True), ("generator", False)):
        ((optimizer, _),) = run.state.players[name]._optimizers
        last = {}
        optimizer.register_step_pre_hook(partial(note_gradients, last))
        list(run.steps(3))
        # Without a first moment nothing is left of earlier gradients.
        assert all(torch.equal(optimizer.state[v]["exp_avg"], gradient) for v, gradient in last.items()) is forgets


def note_gradients(last, optimizer, *_):
    last.update({value: value.grad.clone() for group in optimizer.param_groups for value in group["params"]})


def test_half_precision_is_of_the_passes_and_never_of_what_is_kept(data, cases):
    full, half = (Run(cases, data, config={"dropout": 0.0}, precision=precision) for precision in ("fp32", "bf16"))
    losses = [[step.turns[0].loss for step in run.steps(3)] for run in (full, half)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert {value.dtype for value in half.everything()} == {torch.float32}


@pytest.mark.parametrize("native", [True, False])
def test_automatic_precision_is_what_the_device_computes_by_itself(native, data, cases, monkeypatch):
    monkeypatch.setattr(Place, "native_bfloat16", native)
    auto, same = (Run(cases, data, precision=precision) for precision in ("auto", "bf16" if native else "fp32"))
    assert [step.turns[0].loss for step in auto.steps(2)] == [step.turns[0].loss for step in same.steps(2)]


def test_draws_of_torchs_own_generator_do_not_depend_on_history(data, cases):
    one, other = (Run(cases, data, config={"dropout": 0.9}) for _ in range(2))
    losses = []
    for run, noise in ((one, 0), (other, 100)):
        for step in run.steps(3):
            torch.rand(noise)
            losses.append(step.turns[0].loss)
    assert losses[:3] == losses[3:]


def test_the_first_weights_are_a_function_of_the_seed_and_leave_the_generator_alone(data, cases):
    state = torch.get_rng_state()
    first, again, other = (Run(cases, data, seed=seed).weights() for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("share", [slice(1, None), slice(None)])
def test_weights_that_no_player_owns_or_two_players_own_are_refused(data, cases, share):
    job = cases.job(data, data.files[0].parent / "work")
    learner = job.build()
    parameters = list(learner.named_parameters())
    players = {"one": Player(dict(parameters[share]))}
    if share == slice(None):
        players["other"] = Player(dict(parameters[:1]))
    learner.players = lambda: players
    with pytest.raises(ValueError, match="exactly once"):
        loop.State(learner, job.settings)
