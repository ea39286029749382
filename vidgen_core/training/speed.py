"""How fast a run is: beside what its learner's formula of work and the peak of its device let one expect."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from vidgen_core.interfaces import Batch, Learner, Work
from vidgen_core.training.accelerators import here, uses_bfloat16
from vidgen_core.training.buckets import Bucket
from vidgen_core.training.forecast import On, forecast
from vidgen_core.training.job import Job
from vidgen_core.training.place import Place
from vidgen_core.training.samples import Samples, Shape
from vidgen_core.training.settings import TrainSettings

__all__ = ["CLOCKED", "Done", "Meter", "Rate", "meter_of"]

# Beginnings of the names of figures that hang on the clock and the machine, and not on what is computed.
CLOCKED = ("speed/", "system/")
_RATE_S = 30.0
_COMPARED_STEPS = 20


class Done(NamedTuple):
    """What a worker did in one step, or in several: samples, their operations and their tokens."""

    samples: int = 0
    flops: float = 0.0
    tokens: int = 0

    def plus(self, other: "Done") -> "Done":
        """Both."""
        return Done(self.samples + other.samples, self.flops + other.flops, self.tokens + other.tokens)

    def minus(self, other: "Done") -> "Done":
        """Without what the other did."""
        return Done(self.samples - other.samples, self.flops - other.flops, self.tokens - other.tokens)


class _Mark(NamedTuple):
    """Where a run stood after a step."""

    at_s: float
    cpu_s: float
    steps: int = 0
    waited_s: float = 0.0
    done: Done = Done()


class Rate:
    """Steps a second over the last half minute, what they do and take, and the share of the time spent waiting."""

    def __init__(self) -> None:
        self._marks = deque([_Mark(time.monotonic(), time.process_time())])

    def add(self, wait_s: float, done: Done) -> None:
        """Count one step in."""
        last = self._marks[-1]
        mark = _Mark(
            time.monotonic(), time.process_time(), last.steps + 1, last.waited_s + wait_s, last.done.plus(done)
        )
        self._marks.append(mark)
        while mark.at_s - self._marks[0].at_s > _RATE_S and len(self._marks) > 2:
            self._marks.popleft()

    def figures(self) -> dict[str, float]:
        """Steps, samples, tokens and operations a second, the share of waiting, and a step's time on our cores."""
        first, last = self._marks[0], self._marks[-1]
        seconds, steps = max(1e-9, last.at_s - first.at_s), last.steps - first.steps
        done = last.done.minus(first.done)
        return {
            "steps_per_s": steps / seconds,
            "samples_per_s": done.samples / seconds,
            "tokens_per_s": done.tokens / seconds,
            "flops_per_s": done.flops / seconds,
            "wait_share": min(1.0, (last.waited_s - first.waited_s) / seconds),
            "step_cpu_s": (last.cpu_s - first.cpu_s) / max(1, steps),
        }


class Meter:
    """The speed of one run.

    Args:
        work: What one sample of each shape costs.
        plan: Makes the forecast of a step of one shape in this run on this device; asked for once, when there is
            something to compare it with.
        planned: That shape.
        settings: How it learns.
        place: Which worker this is, and on what; all workers do as much as this one.

    """

    def __init__(
        self, work: Mapping[Shape, Work], plan: Callable[[], On], planned: Shape, settings: TrainSettings, place: Place
    ) -> None:
        self._work, self._plan, self._planned = work, plan, planned
        self._settings, self._place = settings, place
        self._rate = Rate()
        self._times_s: list[tuple[float, float]] = []
        self._last_s = time.monotonic(), time.process_time()

    def add(self, wait_s: float, pieces: Sequence[Batch]) -> None:
        """Count one step in, and what this worker learned from in it."""
        done = Done()
        for piece in pieces:
            count, work = len(piece.video), self._work[_shape(piece)]
            done = done.plus(Done(count, count * work.flops, count * work.tokens))
        self._rate.add(wait_s, done)
        now_s = time.monotonic(), time.process_time()
        if len(self._times_s) < _COMPARED_STEPS and all(_shape(piece) == self._planned for piece in pieces):
            self._times_s.append((now_s[0] - self._last_s[0], now_s[1] - self._last_s[1]))
        self._last_s = now_s

    def figures(self) -> dict[str, float]:
        """Steps, samples and tokens a second, 10^12 operations a second, and their share of the peak of all workers.

        With them goes what a step takes of the cores of all workers, in seconds of one core.
        """
        figures = self._rate.figures()
        own = figures.pop("flops_per_s")
        figures["tflops"] = own / 1e12
        for name in ("samples_per_s", "tokens_per_s", "tflops", "step_cpu_s"):
            figures[name] *= self._place.world
        figures["mfu"] = own / here(self._place).peak_flops(half=self._half)
        return figures

    def comparison(self) -> dict[str, float]:
        """What a step was predicted to take and what it takes, once this process has done 20 of them; before that {}.

        Seconds, those of one core that all workers take, and on an accelerator the memory, in 10^9 bytes.
        """
        if len(self._times_s) < _COMPARED_STEPS:
            return {}
        plan = self._plan()
        # The median: the first steps allocate and compile.
        measured_s, cpu_s = (sorted(times)[_COMPARED_STEPS // 2] for times in zip(*self._times_s, strict=True))
        told = {
            "predicted_step_s": plan.step_s,
            "measured_step_s": measured_s,
            "measured_step_cpu_s": cpu_s * self._place.world,
        }
        if torch.device(self._place.device).type == "cuda":
            told["predicted_memory_gb"] = plan.memory.total / 1e9
            told["measured_memory_gb"] = torch.cuda.max_memory_allocated(self._place.device) / 1e9
        return told

    @property
    def _half(self) -> bool:
        return uses_bfloat16(self._settings, native=self._place.native_bfloat16)


def meter_of(job: Job, learner: Learner, samples: Samples, place: Place) -> Meter:
    """The meter of a run that learns from some samples; the shape whose samples come most is compared."""
    tokens, width = samples.text_shape
    comes = {shape: Bucket.of(shape, numbers, job.settings) for shape, numbers in samples.buckets.items()}
    work = {shape: learner.work(shape, tokens) for shape, bucket in comes.items() if bucket.rate}
    planned = max(work, key=lambda shape: comes[shape].turns(1))
    # Workers that were lost left their pieces to the others.
    settings = job.settings.model_copy(
        update={"workers": place.world, "accumulate": job.settings.pieces // place.world}
    )

    def plan() -> On:
        return forecast(job.build, planned, (tokens, width), settings, [here(place)]).on[0]

    return Meter(work, plan, planned, job.settings, place)


def _shape(piece: Batch) -> Shape:
    channels, frames, height, width = piece.video.shape[1:]
    return channels, frames, height, width
