"""Laws of what a learner is laid out as: recomputed, compiled, in half precision, or split; it learns the same."""

from typing import get_type_hints

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh

from vidgen_core import discovery
from vidgen_core.chance import Chance
from vidgen_core.interfaces import Batch, Learner, Space, Text
from vidgen_core.training import loop
from vidgen_core.training.place import Place
from vidgen_core.training.settings import TrainSettings
from vidgen_core.training.units import lay_out, shard, units, wrapped

SPACE = Space(channels=4, frames=3, height=8, width=8, text_dim=16)


def learning(kind):
    """What of a folder learns."""
    for name in discovery.names(f"vidgen_core.{kind}"):
        if issubclass(get_type_hints(discovery.load(f"vidgen_core.{kind}", name).Config.build)["return"], Learner):
            yield kind, name


LEARNERS = [*learning("families"), *learning("codecs")]
# Batch norm over two samples makes much of a rounding: they are asked for what must be equal.
ENCODERS = [*learning("encoders")]
STEPS = 3


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory):
    """A process group of this process alone."""
    meeting = tmp_path_factory.mktemp("group") / "meeting"
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def build(kind, name):
    torch.manual_seed(0)
    config = discovery.load(f"vidgen_core.{kind}", name).Config.tiny()
    learner = config.build(SPACE) if kind == "families" else config.build()
    with torch.no_grad():
        for weight in learner.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return learner


def batch(kind):
    numbers = torch.Generator().manual_seed(1)
    wide = 64 if kind == "encoders" else SPACE.text_dim
    text = Text(torch.randn(2, 4, wide, generator=numbers), torch.ones(2, 4, dtype=torch.bool))
    if kind != "families":
        video = torch.rand(2, 3, 5, 16, 16, generator=numbers) * 2 - 1
        return Batch(video, text, torch.arange(2), {"label": torch.arange(2.0)})
    return Batch(torch.randn(2, *SPACE.shape, generator=numbers), text, torch.arange(2))


def learn(kind, learner, **changes):
    """Losses of some steps, and the weights after them."""
    settings = TrainSettings(steps=STEPS, batch=2, warmup_steps=0, schedule="constant", **changes)
    state = loop.State(lay_out(learner, settings, Place()), settings)
    batches = ([batch(kind)] for _ in range(STEPS))
    steps = list(loop.run(state, batches, chance=Chance(0), settings=settings, place=Place()))
    assert all(value.dtype == torch.float32 for value in state.tensors().values() if value.is_floating_point())
    return [turn.loss for step in steps for turn in step.turns], state.averaged_weights()


@pytest.mark.parametrize("kind,name", LEARNERS)
def test_most_weights_of_a_learner_are_in_units(kind, name):
    learner = build(kind, name)
    inside = [weight for _, _, unit in units(learner) for weight in unit.parameters()]
    assert len({id(weight) for weight in inside}) == len(inside)
    assert sum(w.numel() for w in inside) > 0.5 * sum(w.numel() for w in learner.parameters())


@pytest.mark.parametrize("kind,name", LEARNERS + ENCODERS)
def test_recomputing_changes_no_bit(kind, name):
    losses, weights = learn(kind, build(kind, name))
    again, same = learn(kind, build(kind, name), recompute=True)
    assert again == losses
    assert same.keys() == weights.keys()
    assert all(torch.equal(same[key], value) for key, value in weights.items())


@pytest.mark.parametrize(
    "kind,name,optimizer", [*((kind, name, "adamw") for kind, name in LEARNERS), ("families", "flow_matching", "muon")]
)
def test_weights_that_are_split_learn_the_same(one_worker, kind, name, optimizer):
    # The length of a split gradient is summed in another order, so it must not be what decides a step's length.
    settings = {"optimizer": optimizer, "clip_norm": 1e9}
    losses, weights = learn(kind, build(kind, name), **settings)
    learner = build(kind, name)
    shard(learner, [unit for _, _, unit in units(learner)], one_worker)
    again, same = learn(kind, learner, **settings)
    # Kernels round by where a tensor lies in memory; what two players make of that grows from turn to turn.
    assert again == pytest.approx(losses, rel=1e-5 if len(losses) == STEPS else 1e-3)
    assert again[: len(losses) // STEPS] == pytest.approx(losses[: len(losses) // STEPS], rel=1e-5)
    assert same.keys() == weights.keys()
    assert all((same[key] - value).norm() <= 1e-3 * value.norm() for key, value in weights.items())


@pytest.mark.parametrize("kind,name", LEARNERS)
def test_half_precision_agrees_with_single_within_two_percent(kind, name):
    losses, _ = learn(kind, build(kind, name))
    half, _ = learn(kind, build(kind, name), precision="bf16")
    assert half != losses
    # Two players answer each other's roundings, so only what the first one meets is compared.
    compared = len(losses) if len(losses) == STEPS else 1
    assert half[:compared] == pytest.approx(losses[:compared], rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind,name", LEARNERS)
def test_compiled_units_agree_with_eager_ones_when_they_are_recomputed_and_split_too(one_worker, kind, name, precision):
    losses, _ = learn(kind, build(kind, name), precision=precision)
    learner = build(kind, name)
    shard(learner, wrapped(learner, compiled=True, recomputed=True), one_worker)
    compiled, _ = learn(kind, learner, precision=precision)
    compared = len(losses) if len(losses) == STEPS else 1
    assert compiled[:compared] == pytest.approx(losses[:compared], rel=1e-3 if precision == "fp32" else 0.02)
