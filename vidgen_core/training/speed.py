"""How fast a run is: beside what its learner's formula of work and the peak of its device let one expect."""

import time
from collections import deque
from collections.abc import Callable

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


class Rate:
    """Steps a second over the last half minute, and the share of the time spent waiting for samples."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int, float]] = deque([(time.monotonic(), 0, 0.0)])

    def add(self, wait_s: float) -> None:
        """Count one step in."""
        _, steps, waited_s = self._marks[-1]
        self._marks.append((time.monotonic(), steps + 1, waited_s + wait_s))
        while self._marks[-1][0] - self._marks[0][0] > _RATE_S and len(self._marks) > 2:
            self._marks.popleft()

    def figures(self, batch: int) -> dict[str, float]:
        """Steps and samples a second, and the share of waiting."""
        (begin_s, first, waited_s), (end_s, last, waited_in_all_s) = self._marks[0], self._marks[-1]
        seconds = max(1e-9, end_s - begin_s)
        steps_per_s = (last - first) / seconds
        share = min(1.0, (waited_in_all_s - waited_s) / seconds)
        return {"steps_per_s": steps_per_s, "samples_per_s": steps_per_s * batch, "wait_share": share}


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
        self._times_s: list[float] = []
        self._last_s = time.monotonic()

    def add(self, wait_s: float) -> None:
        """Count one step in."""
        self._rate.add(wait_s)
        now_s = time.monotonic()
        if len(self._times_s) < _COMPARED_STEPS:
            self._times_s.append(now_s - self._last_s)
        self._last_s = now_s

    def figures(self) -> dict[str, float]:
        """Steps, samples and tokens a second, 10^12 operations a second, and their share of the peak of all workers."""
        figures = self._rate.figures(self._settings.batch)
        flops = figures["samples_per_s"] * self._work.flops
        figures["tokens_per_s"] = figures["samples_per_s"] * self._work.tokens
        figures["tflops"] = flops / 1e12
        figures["mfu"] = flops / (here(self._place).peak_flops(half=self._half) * self._settings.workers)
        return figures

    def comparison(self) -> dict[str, float]:
        """What a step was predicted to take and what it takes, once 20 steps of this process are done; before that {}.

        Seconds, and on an accelerator the memory, in 10^9 bytes.
        """
        if len(self._times_s) < _COMPARED_STEPS:
            return {}
        plan = self._plan()
        # The median: the first steps allocate and compile.
        measured_s = sorted(self._times_s)[_COMPARED_STEPS // 2]
        told = {"predicted_step_s": plan.step_s, "measured_step_s": measured_s}
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
