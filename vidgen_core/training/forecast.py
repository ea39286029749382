"""What a training will take, before it touches a device: parameters, operations, memory, time.

The learner is built of tensors without values (PyTorch's fake tensors, which are meta tensors that know a device), and
one step is taken with them. What autograd keeps for the backward pass is so known without a byte of it being held.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode

from vidgen_core.chance import Shapes
from vidgen_core.frozen import Frozen
from vidgen_core.interfaces import Batch, Learner, Text
from vidgen_core.training.accelerators import Accelerator, uses_bfloat16
from vidgen_core.training.buckets import Bucket
from vidgen_core.training.settings import TrainSettings
from vidgen_core.training.units import splittable, units, wrapped

__all__ = ["Forecast", "Memory", "On", "Trial", "forecast", "rehearse", "step_seconds"]

_VALUE_BYTES = 4
_UNKNOWN = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)
# Operations of a step to one of its forward pass.
_STEP_OVER_FORWARD = 3
Shape = tuple[int, int, int, int]


class Memory(Frozen):
    """Bytes that each worker holds at the fullest moment of a step.

    Args:
        weights, gradients, moments, averages: Of the learner and its optimizers, in float32. Where workers share the
            weights of units, a worker holds its part, and one unit whole with its gradient.
        copies: The weights as they were before a step that is logged, to tell how far it moved them.
        activations: What the backward pass of one piece needs; None where it hangs on drawn values.

    """

    weights: int
    gradients: int
    moments: int
    averages: int
    copies: int
    activations: int | None

    @property
    def total(self) -> int:
        """Their sum; without activations where those are not known."""
        held = self.weights + self.gradients + self.moments + self.averages + self.copies
        return held + (self.activations or 0)


class Trial(NamedTuple):
    """What one piece of a step was seen to do with tensors without values.

    Attributes:
        saved_bytes: What autograd keeps for the backward pass of the fullest turn.
        operations: Of all forward passes; views are none.

    """

    saved_bytes: int
    operations: int


class On(Frozen):
    """The same training on one kind of device.

    Args:
        accelerator: The device.
        half: Whether products are taken in bfloat16.
        step_s, run_s: Time of a step and of all steps, without checkpoints and held-out passes.
        memory: Of each worker.
        fits: Whether that is less than the device has.
        accumulate: Into how many pieces a worker's batch must be cut to fit; None where even single samples do not.

    """

    accelerator: Accelerator
    half: bool
    step_s: float
    run_s: float
    memory: Memory
    fits: bool
    accumulate: int | None


class Forecast(Frozen):
    """What one training will take.

    Args:
        players: Parameters by player.
        tokens, flops: Of one sample in one step.
        settings: How it learns, with the batch that its token budget leaves to clips of this shape.
        on: Devices asked about.

    """

    players: dict[str, int]
    tokens: int
    flops: float
    settings: TrainSettings
    on: tuple[On, ...]

    @property
    def parameters(self) -> int:
        """Of all players."""
        return sum(self.players.values())

    @property
    def step_flops(self) -> float:
        """Of a step, over all workers."""
        return self.flops * self.settings.batch


def forecast(
    build: Callable[[], Learner],
    shape: Shape,
    text: tuple[int, int],
    settings: TrainSettings,
    accelerators: Sequence[Accelerator],
) -> Forecast:
    """What training takes.

    Args:
        build: Makes the learner.
        shape: (channels, frames, height, width) of one sample.
        text: Tokens of a caption and their width; (0, 0) without text.
        settings: How it learns.
        accelerators: The devices to tell about.

    Raises:
        VidgenError: Not one sample a piece fits the token budget.

    """
    batch = Bucket.of(shape, np.arange(0), settings).batch
    settings = settings.model_copy(update={"batch": batch})
    with torch.device("meta"):
        learner = build()
    work = learner.work(shape, text[0])
    players = {name: sum(v.numel() for v in player.parameters.values()) for name, player in learner.players().items()}
    on = [_on(build, learner, shape, text, settings, one) for one in accelerators]
    return Forecast(players=players, tokens=work.tokens, flops=work.flops, settings=settings, on=tuple(on))


def rehearse(build: Callable[[], Learner], shape: Shape, text: tuple[int, int], count: int,
             *, device: str, half: bool, recompute: bool = False) -> Trial | None:  # fmt: skip
    """What the losses of `count` samples do on a device, which need not be there.

    Where units are computed again for the backward pass, their inputs are kept, and what the largest unit needs besides
    while it is its turn.

    None where a learner's work hangs on the values that it draws, which tensors without values do not have, and where
    its losses take gradients themselves on a device that is not there.
    """
    with FakeTensorMode(), torch.device(device), _half(device, half):
        try:
            learner = build()
            batch = _empty_batch(learner, shape, text, count)
            trial, largest = _watched(learner, batch)
            if not recompute:
                return trial
            wrapped(learner, compiled=False, recomputed=True)
            return trial._replace(saved_bytes=_watched(learner, batch)[0].saved_bytes + largest)
        except _UNKNOWN:
            return None
        except RuntimeError as error:
            # Losses that take gradients themselves ask PyTorch's engine for the device, which may not be there.
            if "valid device index" not in str(error):
                raise
            return None


def step_seconds(flops: float, settings: TrainSettings, accelerator: Accelerator, trial: Trial | None,
                 *, half: bool) -> float:  # fmt: skip
    """Time of one step: that of its arithmetic, or of starting its operations where those are too small to matter.

    Args:
        flops: Of one sample.
        settings: How it learns.
        accelerator: The device of each worker.
        trial: What a piece was seen to do.
        half: Whether products are taken in bfloat16.

    """
    arithmetic_s = flops * settings.batch / settings.workers
    arithmetic_s /= accelerator.peak_flops(half=half) * accelerator.assumed_mfu
    started = 0 if trial is None else trial.operations * _STEP_OVER_FORWARD * settings.accumulate
    starting_s = accelerator.start_s * started
    return arithmetic_s + starting_s if accelerator.name == "cpu" else max(arithmetic_s, starting_s)


def _on(
    build: Callable[[], Learner], learner: Learner, shape: Shape, text: tuple[int, int], settings: TrainSettings,
    accelerator: Accelerator,
) -> On:  # fmt: skip
    device = "cpu" if accelerator.name == "cpu" else "cuda"
    native = accelerator.bf16_tflops > accelerator.fp32_tflops
    half = uses_bfloat16(settings, native=native)
    count = settings.batch // settings.pieces
    trial = rehearse(build, shape, text, count, device=device, half=half, recompute=settings.recompute)
    memory = _memory(learner, settings, None if trial is None else trial.saved_bytes)
    step_s = step_seconds(learner.work(shape, text[0]).flops, settings, accelerator, trial, half=half)
    free = 1e9 * accelerator.memory_gb - memory.total + (memory.activations or 0)
    return On(
        accelerator=accelerator, half=half, step_s=step_s, run_s=step_s * settings.steps, memory=memory,
        fits=free > (memory.activations or 0), accumulate=_accumulate(settings, memory.activations or 0, free),
    )  # fmt: skip


def _memory(learner: Learner, settings: TrainSettings, activations: int | None) -> Memory:
    split = splittable(learner, [unit for _, _, unit in units(learner)])
    sharers = math.gcd(settings.shard_workers, settings.workers)
    inside = {value for unit in split for value in unit.parameters()} if sharers > 1 else set()
    # Rows are dealt out, so that the first worker has as many as any.
    own = {
        value: value.numel() // len(value) * -(-len(value) // sharers) if value in inside else value.numel()
        for value in learner.parameters()
    }
    learned = sum(count for value, count in own.items() if value.requires_grad)
    gathered = max((sum(value.numel() for value in unit.parameters()) for unit in split if inside), default=0)
    return Memory(
        weights=_VALUE_BYTES * (sum(own.values()) + gathered + sum(value.numel() for value in learner.buffers())),
        gradients=_VALUE_BYTES * (learned + gathered),
        moments=_VALUE_BYTES * _moments(learner, settings, own),
        averages=_VALUE_BYTES * learned * (1 + len(settings.ema_lengths)),
        copies=_VALUE_BYTES * learned,
        activations=activations,
    )


def _accumulate(settings: TrainSettings, activations: int, free: float) -> int | None:
    """The fewest pieces whose activations fit; those are nearly proportional to the samples of a piece."""
    own = settings.batch // settings.workers
    for pieces in range(settings.accumulate, own + 1):
        if own % pieces == 0 and activations * settings.accumulate / pieces < free:
            return pieces
    return None


def _moments(learner: Learner, settings: TrainSettings, own: Mapping[nn.Parameter, int]) -> int:
    """Values that the optimizers keep: two a weight for AdamW, one for Muon; a worker has so many of each weight."""
    total = 0
    for player in learner.players().values():
        for name, value in player.parameters.items():
            total += own[value] * (1 if settings.optimizer == "muon" and name in player.hidden else 2)
    return total


def _empty_batch(learner: Learner, shape: Shape, text: tuple[int, int], count: int) -> Batch:
    words = None
    if learner.reads_text and text[1]:
        words = Text(torch.empty(count, *text), torch.empty(count, text[0], dtype=torch.bool))
    labels = {name: torch.empty(count) for name in learner.labels}
    return Batch(torch.empty(count, *shape), words, torch.empty(count, dtype=torch.int64, device="cpu"), labels)


class _Count(TorchDispatchMode):
    """Counts operations that compute."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Any = (),
        kwargs: Any = None,  # noqa: ARG002 - the library's signature
    ) -> Any:
        """One operation."""
        self.operations += func.namespace == "aten" and not func.is_view and "view" not in func.name()
        return func(*args, **(kwargs or {}))


def _watched(learner: Learner, batch: Batch) -> tuple[Trial, int]:
    """What the losses do, and the bytes that one pass of the unit that keeps most adds to its input."""
    own = {value.untyped_storage()._cdata for value in learner.parameters()}
    kept: dict[int, Tensor] = {}
    largest = 0
    known: list[set[int]] = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = tensor
        return tensor

    def held(besides: Collection[int] = ()) -> int:
        return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in besides)

    def enter(_: nn.Module, given: tuple[Any, ...]) -> None:
        known.append({one.untyped_storage()._cdata for one in given if isinstance(one, Tensor)} | kept.keys())

    def leave(*_: Any) -> None:
        nonlocal largest
        largest = max(largest, held(known.pop()))

    hooks = [hook for _, _, unit in units(learner)
             for hook in (unit.register_forward_pre_hook(enter), unit.register_forward_hook(leave))]  # fmt: skip
    fullest = 0
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), _Count() as count:
        for _ in learner.losses(batch, Shapes(0, device=batch.video.device)):
            fullest = max(fullest, held())
            # Its backward pass frees them before the next turn.
            kept.clear()
    for hook in hooks:
        hook.remove()
    return Trial(fullest, count.operations), largest


@contextmanager
def _half(device: str, wanted: bool) -> Iterator[None]:
    """Autocast to bfloat16, also for a device that this machine does not have."""
    before, kind = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    torch.set_autocast_enabled(device, wanted)
    torch.set_autocast_dtype(device, torch.bfloat16)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, before)
        torch.set_autocast_dtype(device, kind)
