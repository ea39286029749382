"""How fast a run is: beside what its learner's formula of work and the peak of its device let one expect."""

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch

from vidgen_core.interfaces import Batch, Learner, Work
from vidgen_core.training.accelerators import here, uses_bfloat16
from vidgen_core.training.forecast import On, forecast
from vidgen_core.training.job import Job
from vidgen_core.training.place import Place
from vidgen_core.training.settings import TrainSettings

__all__ = ["CLOCKED", "Meter", "Rate", "meter_of"]

# Beginnings of the names of figures that hang on the clock and the machine, and not on what is computed.
CLOCKED = ("speed/", "system/")
_RATE_S = 30.0
_COMPARED_STEPS = 20


class _Mark(NamedTuple):
    """Where a run stood after a step."""

    at_s: float
    cpu_s: float
    steps: int = 0
    waited_s: float = 0.0


class Rate:
    """Steps a second over the last half minute, what they take, and the share of the time spent waiting for samples."""

    def __init__(self) -> None:
        self._marks = deque([_Mark(time.monotonic(), time.process_time())])

    def add(self, wait_s: float) -> None:
        """Count one step in."""
        last = self._marks[-1]
        mark = _Mark(time.monotonic(), time.process_time(), last.steps + 1, last.waited_s + wait_s)
        self._marks.append(mark)
        while mark.at_s - self._marks[0].at_s > _RATE_S and len(self._marks) > 2:
            self._marks.popleft()

    def figures(self, batch: int) -> dict[str, float]:
        """Steps and samples a second, the share of waiting, and what a step takes of this process's cores."""
        first, last = self._marks[0], self._marks[-1]
        seconds, steps = max(1e-9, last.at_s - first.at_s), last.steps - first.steps
        return {
            "steps_per_s": steps / seconds,
            "samples_per_s": steps / seconds * batch,
            "wait_share": min(1.0, (last.waited_s - first.waited_s) / seconds),
            "step_cpu_s": (last.cpu_s - first.cpu_s) / max(1, steps),
        }


class Meter:
    """The speed of one run.

    Args:
        work: What one sample costs.
        plan: Makes the forecast of this run on this device; asked for once, when there is something to compare it with.
        settings: How it learns.
        place: Which worker this is, and on what.

    """

    def __init__(self, work: Work, plan: Callable[[], On], settings: TrainSettings, place: Place) -> None:
        self._work, self._plan, self._settings, self._place = work, plan, settings, place
        self._rate = Rate()
        self._times_s: list[tuple[float, float]] = []
        self._last_s = time.monotonic(), time.process_time()

    def add(self, wait_s: float) -> None:
        """Count one step in."""
        self._rate.add(wait_s)
        now_s = time.monotonic(), time.process_time()
        if len(self._times_s) < _COMPARED_STEPS:
            self._times_s.append((now_s[0] - self._last_s[0], now_s[1] - self._last_s[1]))
        self._last_s = now_s

    def figures(self) -> dict[str, float]:
        """Steps, samples and tokens a second, 10^12 operations a second, and their share of the peak of all workers.

        With them goes what a step takes of the cores of all workers, in seconds of one core.
        """
        figures = self._rate.figures(self._settings.batch)
        figures["step_cpu_s"] *= self._settings.workers
        flops = figures["samples_per_s"] * self._work.flops
        figures["tokens_per_s"] = figures["samples_per_s"] * self._work.tokens
        figures["tflops"] = flops / 1e12
        figures["mfu"] = flops / (here(self._place).peak_flops(half=self._half) * self._settings.workers)
        return figures

    def comparison(self) -> dict[str, float]:
        """What a step was predicted to take and what it takes, once 20 steps of this process are done; before that {}.

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
            "measured_step_cpu_s": cpu_s * self._settings.workers,
        }
        if torch.device(self._place.device).type == "cuda":
            told["predicted_memory_gb"] = plan.memory.total / 1e9
            told["measured_memory_gb"] = torch.cuda.max_memory_allocated(self._place.device) / 1e9
        return told

    @property
    def _half(self) -> bool:
        return uses_bfloat16(self._settings, native=self._place.native_bfloat16)


def meter_of(job: Job, learner: Learner, sample: Batch, place: Place) -> Meter:
    """The meter of a run whose samples are like this one."""
    channels, frames, height, width = sample.video.shape[1:]
    shape = (channels, frames, height, width)
    text = (0, 0) if sample.text is None else (sample.text.tokens.shape[1], sample.text.tokens.shape[2])

    def plan() -> On:
        return forecast(job.build, shape, text, job.settings, [here(place)]).on[0]

    return Meter(learner.work(shape, text[0]), plan, job.settings, place)
