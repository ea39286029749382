import pytest
import torch

from vidgen_core.errors import VidgenError
from vidgen_core.families.flow_matching import Config
from vidgen_core.interfaces import Learner, Player, Space, Work
from vidgen_core.training import loop
from vidgen_core.training.accelerators import ACCELERATORS, Accelerator, choose, here
from vidgen_core.training.forecast import Trial, forecast, rehearse, step_seconds
from vidgen_core.training.place import Place
from vidgen_core.training.settings import TrainSettings

SPACE = Space(channels=4, frames=3, height=8, width=8, text_dim=6)
H100, A100 = ACCELERATORS["h100"], ACCELERATORS["a100"]


def build():
    return Config.tiny().build(SPACE)


def settings(**changes):
    return TrainSettings(**{"steps": 10, "batch": 8, **changes})


def plan(on=(H100,), **changes):
    return forecast(build, SPACE.shape, (5, 6), settings(**changes), on)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_what_a_learner_and_its_optimizers_hold_is_what_the_plan_says(optimizer):
    chosen = settings(optimizer=optimizer)
    state = loop.State(build(), chosen)
    for training in state.players.values():
        training.learn(sum(weight.square().sum() for weight in training.weights.values()))
        training.turn(1e-3, Place())
    kept = (tensors for one in state.players.values() for tensors in one.tensors().items())
    moments = sum(value.numel() for name, value in kept if value.ndim and not name.startswith("average/"))
    memory = plan(optimizer=optimizer).on[0].memory
    count = sum(value.numel() for value in state.learner.parameters())
    assert memory.moments == 4 * moments
    assert memory.gradients == memory.averages == memory.copies == 4 * count
    assert memory.weights >= 4 * count


class Stack(Learner):
    """Blocks of which each keeps its input of `dim` and `wide` values a sample, whose product's input is kept too."""

    reads_text = False

    def __init__(self, depth, dim, wide):
        super().__init__()
        linear, relu = torch.nn.Linear, torch.nn.ReLU
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(linear(dim, wide), relu(), linear(wide, dim)) for _ in range(depth)
        )
        self.first = linear(dim, dim)

    def players(self):
        return {"stack": Player(dict(self.named_parameters()))}

    def losses(self, batch, chance):
        x = self.first(batch.video.flatten(1))
        for block in self.blocks:
            x = block(x)
        yield "stack", x.sum()

    def held_out(self, batch, chance):
        raise NotImplementedError

    def work(self, shape, text_tokens):
        return Work(1e6, 1)


def memory_of(depth=5, **changes):
    made = forecast(lambda: Stack(depth, 8, 32), (8, 1, 1, 1), (0, 0), settings(**changes), [H100])
    return made.on[0].memory


def test_recomputing_keeps_the_inputs_of_units_and_the_inside_of_one():
    kept, again = (memory_of(recompute=recompute) for recompute in (False, True))
    assert kept.activations == 4 * 8 * (8 + 5 * (8 + 32))  # bytes, samples, values of each
    assert again.activations == 4 * 8 * (8 + 5 * 8 + 32)
    assert again.model_copy(update={"activations": kept.activations}) == kept


def test_every_power_average_is_one_more_copy_of_the_weights():
    one, three = memory_of(), memory_of(ema_lengths=(0.05, 0.1))
    assert three.averages == 3 * one.averages
    assert three.total - one.total == 2 * one.averages


@pytest.mark.parametrize("sharers,part", [(2, 2), (4, 4)])
def test_workers_that_share_units_hold_a_part_of_them_and_one_whole(sharers, part):
    whole, parted = memory_of(workers=4), memory_of(workers=4, shard_workers=sharers)
    unit, first = 8 * 32 * 2 + 32 + 8, 8 * 8 + 8
    assert whole.weights == 4 * (first + 5 * unit)
    assert parted.weights == parted.gradients == 4 * (first + 5 * unit // part + unit)
    assert parted.averages == parted.copies == parted.moments // 2 == 4 * (first + 5 * unit // part)
    assert parted.activations == whole.activations


def test_activations_grow_with_the_piece():
    saved = [one.on[0].memory.activations for one in (plan(), plan(accumulate=4))]
    assert saved[1] == pytest.approx(saved[0] / 4, rel=0.05)
    assert plan(batch=16).on[0].memory.activations == pytest.approx(2 * saved[0], rel=0.05)


def test_time_goes_with_the_work_and_against_workers_and_peak():
    one = step_seconds(1e15, settings(), H100, None, half=True)
    assert one == pytest.approx(8e15 / (989.4e12 * H100.assumed_mfu))
    assert step_seconds(1e15, settings(workers=4), H100, None, half=True) == pytest.approx(one / 4)
    ratio = step_seconds(1e15, settings(), A100, None, half=True) / one
    assert ratio == pytest.approx(H100.bf16_tflops / A100.bf16_tflops)


def test_a_token_budget_that_cuts_the_batch_cuts_all_that_a_step_takes():
    budget = 2 * SPACE.frames * SPACE.height * SPACE.width
    cut, small = (
        forecast(build, SPACE.shape, (5, 6), settings(**changes), [H100])
        for changes in ({"token_budget": budget}, {"batch": 2})
    )
    assert cut.on == small.on
    assert cut.step_flops == small.step_flops == 2 * cut.flops


def test_a_small_model_is_as_slow_as_its_operations_are_started():
    fast = step_seconds(1e3, settings(), H100, Trial(0, 1000), half=True)
    assert fast == step_seconds(1e3, settings(), A100, Trial(0, 1000), half=True) > 1e-3
    assert step_seconds(1e3, settings(accumulate=2), H100, Trial(0, 1000), half=True) == 2 * fast


def test_what_does_not_fit_is_said_with_the_pieces_that_would():
    held = plan().on[0].memory
    small = Accelerator(
        name="small", bf16_tflops=1, fp32_tflops=1, memory_gb=(held.total - 0.6 * held.activations) / 1e9
    )
    told = plan([H100, small]).on
    assert (told[0].fits, told[0].accumulate) == (True, 1)
    assert (told[1].fits, told[1].accumulate) == (False, 4)
    tiny = small.model_copy(update={"memory_gb": held.weights / 1e9})
    assert plan([tiny]).on[0].accumulate is None


def test_nothing_is_built_and_no_random_number_is_drawn():
    state = torch.get_rng_state()
    huge = Space(channels=4, frames=16, height=32, width=32, text_dim=0)
    made = forecast(lambda: Config.paper().build(huge), huge.shape, (0, 0), settings(), [H100])
    assert made.parameters > 6e8
    assert torch.equal(torch.get_rng_state(), state)


def test_what_hangs_on_drawn_values_is_not_known_and_said_so():
    class Odd(torch.nn.Module):
        reads_text, labels = False, ()

        def losses(self, batch, chance):
            yield "odd", batch.video[chance.uniform("kept", batch.index) > 0.5].sum()

    assert rehearse(Odd, SPACE.shape, (0, 0), 2, device="cpu", half=False) is None


def test_the_processor_here_is_measured_and_a_wrong_name_is_refused():
    cpu = here(Place())
    assert cpu == choose(["cpu"], threads=1)[0]
    assert 1e9 < cpu.peak_flops(half=False) < 1e13
    with pytest.raises(VidgenError, match="Did you mean 'h100'"):
        choose(["h10"], threads=1)
