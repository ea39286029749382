import torch

from vidgen_core.chance import Chance
from vidgen_core.training import loop
from vidgen_core.training.held_out import held_out
from vidgen_core.training.place import Place
from vidgen_core.training.samples import Samples


def opened(cases, data, **changes):
    job = cases.job(data, data.files[0].parent / "work", config={"dropout": 0.5}, **changes)
    return loop.State(job.build(), job.settings), Samples(data, "held_out", text=True), job.settings


def values(state, samples, settings, place=None):
    return held_out(state, samples, chance=Chance(0), settings=settings, place=place or Place())


def test_the_mean_is_over_the_wanted_number_of_samples_and_always_the_same_ones(cases, data):
    state, samples, settings = opened(cases, data, held_out_samples=5)
    seen = []
    evaluate = state.learner.held_out
    state.learner.held_out = lambda batch, chance: seen.append(batch.index.tolist()) or evaluate(batch, chance)
    assert values(state, samples, settings) == values(state, samples, settings)
    assert seen == [[0, 1, 2, 3], [4]] * 2


def test_the_pass_uses_averaged_weights_without_dropout_and_puts_everything_back(cases, data):
    state, samples, settings = opened(cases, data)
    before = values(state, samples, settings)
    live = {name: value.detach().clone() for name, value in state.learner.named_parameters()}
    with torch.no_grad():
        for value in state.learner.parameters():
            value.add_(1.0)
    assert values(state, samples, settings) == before
    assert state.learner.training
    assert all(torch.equal(value, live[name] + 1) for name, value in state.learner.named_parameters())


def test_the_size_of_the_batches_does_not_matter(cases, data):
    state, samples, settings = opened(cases, data)
    whole = values(state, samples, settings)
    single = values(state, samples, settings.model_copy(update={"accumulate": 4}))
    assert abs(single["loss"] - whole["loss"]) < 1e-6


def test_shares_of_workers_put_together_are_the_whole(cases, data):
    state, samples, settings = opened(cases, data)
    expected = values(state, samples, settings)

    class Half(Place):
        """One of two workers that meet afterwards."""

        parts: list

        def gather(self, value):
            met.append(value)
            return [value] if len(met) == 1 else met

    met = []
    values(state, samples, settings, Half(1, 2))
    assert values(state, samples, settings, Half(0, 2)) == expected


def test_no_held_out_samples_are_no_values(cases, data):
    state, _, settings = opened(cases, data)
    assert values(state, Samples(data, "nothing", text=True), settings) == {}
