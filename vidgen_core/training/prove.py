"""Proof that a run resumes: killed and continued, on as many workers and on another number, it is what it would be.

A run of some steps is done unbroken, then again with its workers killed by SIGKILL between two checkpoints, and
continued. Every worker notes the loss of each step and a digest of each sample that it was given, so that what is
compared is what was computed, and not what was meant.
"""

import argparse
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

import torch
from pydantic import computed_field

from vidgen_core import weights
from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen
from vidgen_core.training import mistakes
from vidgen_core.training.fit import finished, fit
from vidgen_core.training.job import Job
from vidgen_core.training.launch import joined, write_job
from vidgen_core.training.loop import Step

__all__ = ["Case", "Proof", "Trace", "prove", "run_workers", "traced"]

# Sums over another number of workers have another order; a step of training makes more of the difference.
_LOSS_TOLERANCE = 1e-3
_WEIGHT_TOLERANCE = 1e-3

# Step -> its losses in the order of turns, and the digest of each sample by its position in the stream.
Trace = dict[int, tuple[list[float], dict[int, str]]]


class Case(Frozen):
    """One way to break a run, and what came of it.

    Attributes:
        workers: Workers before and after the kill.
        resumed_from: Step of the checkpoint that the second start took.
        samples_equal: Whether every step had the samples of the unbroken run, those done twice both times.
        losses_equal, weights_equal: Whether they are the unbroken run's bit for bit.
        loss_error: Largest relative difference of a step's loss.
        weight_error: Largest difference of a weight, over the largest weight of its tensor.
        passed: Samples are equal; bits are equal where the number of workers stayed on a CPU, errors small elsewhere.

    """

    workers: tuple[int, int]
    resumed_from: int
    samples_equal: bool
    losses_equal: bool
    weights_equal: bool
    loss_error: float
    weight_error: float
    passed: bool


class Proof(Frozen):
    """What was found.

    Attributes:
        steps: Steps of each run.
        killed_at: The step after which workers were killed.
        digest: Digest of the unbroken run's weights.
        cases: What was tried.
        notes: What could not be tried, in sentences.

    """

    steps: int
    killed_at: int
    digest: str
    cases: tuple[Case, ...]
    notes: tuple[str, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether every case passed."""
        return all(case.passed for case in self.cases)

    @property
    def sentence(self) -> str:
        """What was tried and held."""
        held = sum(case.passed for case in self.cases)
        killed = f"of {len(self.cases)} runs killed after step {self.killed_at} of {self.steps}"
        return f"{killed}, {held} went on as if nothing had happened."


def prove(job: Job, folder: Path, *, steps: int = 12) -> Proof:
    """Break runs of a job and compare them with an unbroken one.

    Args:
        job: The run; it is left alone, only its settings, learner and data are used.
        folder: An empty folder to work in.
        steps: Steps of each run, at least 4.

    Raises:
        VidgenError: As `fit` raises it; or workers failed.

    """
    workers = job.settings.workers
    plain, notes = _small(job, steps), []
    killed_at = steps // 2 + 1
    whole = _placed(plain, folder / "unbroken", workers)
    run_workers(whole, folder / "unbroken.trace")
    others = [workers, *([other] if (other := _other(plain)) else [])]
    if len(others) == 1:
        notes.append(f"A batch of {plain.settings.batch} can be shared by no other number of workers")
    cases = []
    for after in others:
        before_job = _placed(plain, folder / f"onto-{after}", workers)
        trace_dir = folder / f"onto-{after}.trace"
        run_workers(before_job, trace_dir, die_at=killed_at)
        after_job = _placed(plain, folder / f"onto-{after}", after)
        run_workers(after_job, trace_dir)
        cases.append(_compare(whole, after_job, folder / "unbroken.trace", trace_dir, workers))
    found = finished(whole)
    assert found is not None
    return Proof(steps=steps, killed_at=killed_at, digest=found.weights, cases=tuple(cases), notes=tuple(notes))


def run_workers(job: Job, trace_dir: Path, *, die_at: int | None = None) -> None:
    """Run a job by processes of its own here; they note what they do in `trace_dir`.

    Args:
        job: The run.
        trace_dir: A file a start and worker.
        die_at: The last worker kills itself after this step, and the others are killed with it.

    Raises:
        VidgenError: As `fit` raises it; or workers failed that were not to die.

    """
    job_file, world = write_job(job), job.settings.workers
    mistakes.forget(job)
    trace_dir.mkdir(parents=True, exist_ok=True)
    start = uuid.uuid4().hex[:8]
    log_file = job.work_dir / "failure.log"
    base = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "WORLD_SIZE": str(world)}
    command = [sys.executable, "-m", "vidgen_core.training.prove", "--job", str(job_file), "--trace", str(trace_dir)]
    command += ["--start", start, "--meeting", f"file://{job.work_dir / start}"]
    with log_file.open("wb") as log:
        workers = [
            subprocess.Popen(
                [*command, *(["--die-at", str(die_at)] if die_at is not None and rank == world - 1 else [])],
                env={**base, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=log, stderr=subprocess.STDOUT,
            )
            for rank in range(world)
        ]  # fmt: skip
    try:
        codes = [worker.wait() for worker in reversed(workers)] if die_at is None else [workers[-1].wait()]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    if (told := mistakes.told(job)) is not None:
        raise told
    if any(codes) and die_at is None:
        lines = [line for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
        raise VidgenError("A worker of the proof failed", got=lines[-1] if lines else codes, move=f"Read {log_file}")


def traced(trace_dir: Path) -> tuple[Trace, bool]:
    """What the workers of all starts noted, and whether steps that were done twice were the same both times."""
    found: Trace = {}
    agree = True
    for file in sorted(trace_dir.glob("*.jsonl"), key=lambda file: file.stat().st_mtime_ns):
        for line in file.read_text().splitlines():
            row = json.loads(line)
            samples = {int(position): digest for position, digest in row["samples"].items()}
            _, known = found.get(row["step"], ([], {}))
            agree &= all(known.get(position, digest) == digest for position, digest in samples.items())
            found[row["step"]] = (row["losses"], {**known, **samples})
    return found, agree


def _small(job: Job, steps: int) -> Job:
    """The job with few steps, and a checkpoint before the kill that is not right before it."""
    settings = job.settings
    changes: dict[str, Any] = {
        "steps": steps, "checkpoint_every": max(1, steps // 4), "held_out_every": max(1, steps // 2), "log_every": 1,
        "held_out_samples": min(16, settings.held_out_samples), "keep": 2, "checkpoint_uri": "", "protect_every": 0,
        "warmup_steps": min(settings.warmup_steps, steps // 4),
    }  # fmt: skip
    if settings.pieces % 2 and settings.batch % (2 * settings.pieces) == 0:
        changes["accumulate"] = 2 * settings.accumulate
    return job.model_copy(update={"settings": type(settings).model_validate({**settings.model_dump(), **changes})})


def _other(job: Job) -> int | None:
    """Another number of workers that can share the same pieces: one instead of more, two instead of one."""
    if job.settings.workers > 1:
        return 1
    return 2 if job.settings.pieces % 2 == 0 else None


def _placed(job: Job, work_dir: Path, workers: int) -> Job:
    settings = job.settings
    changes = {"workers": workers, "accumulate": settings.pieces // workers}
    changes["shard_workers"] = math.gcd(settings.shard_workers, workers)
    fresh = type(settings).model_validate({**settings.model_dump(), **changes})
    return job.model_copy(update={"settings": fresh, "work_dir": work_dir})


def _compare(whole: Job, broken: Job, whole_trace: Path, trace_dir: Path, workers: int) -> Case:
    (expected, _), (found, agree) = traced(whole_trace), traced(trace_dir)
    samples_equal = agree and {step: row[1] for step, row in found.items()} == {s: r[1] for s, r in expected.items()}
    pairs = [
        (one, other)
        for step, (losses, _) in expected.items()
        for one, other in zip(losses, found.get(step, ([], {}))[0] or [math.nan] * len(losses), strict=True)
    ]
    loss_error = max(abs(one - other) / max(abs(one), 1e-12) for one, other in pairs)
    weight_error = max(_weight_errors(whole, broken))
    one, other = finished(whole), finished(broken)
    assert one is not None
    assert other is not None
    losses_equal, weights_equal = all(one == other for one, other in pairs), one.weights == other.weights
    exact = broken.settings.workers == workers and broken.settings.device == "cpu"
    close = loss_error <= _LOSS_TOLERANCE and weight_error <= _WEIGHT_TOLERANCE
    passed = samples_equal and other.resumed_from > 0 and (losses_equal and weights_equal if exact else close)
    return Case(
        workers=(workers, broken.settings.workers), resumed_from=other.resumed_from, samples_equal=samples_equal,
        losses_equal=losses_equal, weights_equal=weights_equal, loss_error=loss_error, weight_error=weight_error,
        passed=passed,
    )  # fmt: skip


def _weight_errors(whole: Job, broken: Job) -> Iterator[float]:
    expected, found = weights.load(whole.final_dir)[0], weights.load(broken.final_dir)[0]
    for name, value in expected.items():
        yield ((found[name] - value).abs().max() / value.abs().max().clamp_min(1e-12)).item()


class _Notes:
    """Writes a line a step, and kills its process where it is told to."""

    def __init__(self, stream: TextIO, die_at: int | None) -> None:
        self._stream, self._die_at = stream, die_at

    def __call__(self, step: Step) -> None:
        samples = {
            int(position): hashlib.blake2b(
                sample.cpu().contiguous().view(torch.uint8).numpy(), digest_size=8
            ).hexdigest()
            for piece in step.pieces
            for position, sample in zip(piece.index.tolist(), piece.video, strict=True)
        }
        row = {"step": step.number, "losses": [turn.loss for turn in step.turns], "samples": samples}
        self._stream.write(f"{json.dumps(row)}\n")
        self._stream.flush()
        if step.number == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """One worker of a proof."""
    parser = argparse.ArgumentParser(prog="python -m vidgen_core.training.prove", description=__doc__)
    parser.add_argument("--job", type=Path, required=True)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--start", required=True)
    parser.add_argument("--meeting", required=True)
    parser.add_argument("--die-at", type=int)
    asked = parser.parse_args()
    job = Job.model_validate_json(asked.job.read_text())
    with joined(job.settings.device, meeting=asked.meeting) as place, mistakes.told_by_file(job, place):
        stream = (asked.trace / f"{asked.start}-{place.rank}.jsonl").open("w")
        with closing(stream):
            fit(job, place=place, watch=_Notes(stream, asked.die_at))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    # Gloo's threads sometimes abort a process that ends as usual, when all its work is done.
    os._exit(0)
