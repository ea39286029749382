"""One worker's run: from its start, or its last good checkpoint, to the averaged weights in `final`."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidgen_core import weights
from vidgen_core.chance import Chance
from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen
from vidgen_core.interfaces import Codec, Learner
from vidgen_core.training import loop
from vidgen_core.training.buckets import Bucket, bucket_name
from vidgen_core.training.checkpoints import Checkpoints
from vidgen_core.training.disk import disk_errors
from vidgen_core.training.held_out import held_out
from vidgen_core.training.job import Job
from vidgen_core.training.journal import Journal, Progress, Recorder
from vidgen_core.training.order import Order, Stream, ahead
from vidgen_core.training.place import Place
from vidgen_core.training.samples import Samples
from vidgen_core.training.speed import meter_of
from vidgen_core.training.stopping import STOPPED_EXIT, Stop
from vidgen_core.training.store import store_at
from vidgen_core.training.units import lay_out

__all__ = ["Fitted", "finished", "fit"]

_log = logging.getLogger(__name__)
_MEASURED_SAMPLES = 512
_NONE_HELD_OUT = "No clip was held out, so nothing was measured on clips that were not learned from"


class Fitted(Frozen):
    """What a run came to.

    Attributes:
        job: Digest of the job.
        weights: Digest of the averaged weights in `final`.
        steps: Steps of the run.
        skipped: Steps whose loss or gradient was not finite.
        resumed_from: Step at which the last process took over; 0 for an unbroken run.
        seconds: Time of the last process.
        samples: Samples there were to learn from.
        held_out: Last held-out values by name.
        notes: What the user should know, in sentences.

    """

    job: str
    weights: str
    steps: int
    skipped: int
    resumed_from: int
    seconds: float
    samples: int
    held_out: dict[str, float]
    notes: tuple[str, ...]


def fit(
    job: Job, *, place: Place, recorder: Recorder | None = None, progress: Progress | None = None,
    watch: Callable[[loop.Step], None] | None = None,
) -> Fitted:  # fmt: skip
    """Train until `job.settings.steps`, going on from the last good checkpoint in `job.checkpoints`.

    Args:
        job: The run.
        place: Which worker this is; the first one writes.
        recorder: Takes the logged rows besides `history.jsonl`; whoever opened it closes it.
        progress: Told at most twice a second; by default `progress.json` in the work folder.
        watch: Called on this worker after each step, before anything is saved.

    Raises:
        VidgenError: The data does not fit the learner, the folder belongs to another run, the disk is full, the loss
            stopped being finite, or the run was asked to stop by SIGTERM.

    """
    began = time.monotonic()
    settings, chance = job.settings, Chance(job.settings.seed)
    torch.set_num_threads(settings.threads_per_worker)
    learner = job.build()
    train, held = (_open(job, split, learner) for split in (job.data.train, job.data.held_out))
    if learner.joins_samples:
        _check_joined(job, train)
    digest = job.digest(train.digest)
    if (fitted := finished(job, digest)) is not None:
        return fitted
    learner.begin()

    with (
        disk_errors(job.work_dir),
        closing(Checkpoints(store_at(job.checkpoints), place, job=digest, keep=settings.keep)) as kept,
        closing(Checkpoints(store_at(job.averages), place, job=digest, keep=settings.steps)) as snapshots,
    ):
        # Asked before weights are split, which would hide how large they are.
        meter = meter_of(job, learner, train, place)
        state = loop.State(lay_out(learner.to(place.device), settings, place), settings)
        journaled, notes = _resume(state, kept, place)
        told = {"job": digest, "resumed_from": state.step, "samples": len(train)}
        with closing(
            Journal(job, place, meter, recorder=recorder, progress=progress, kept=journaled, step=state.step)
        ) as journal:
            _Run(job, place, chance, state, kept, snapshots, journal, watch).learn(train, held)
        kept.wait()
        told |= {
            "steps": state.step, "skipped": state.skipped, "seconds": time.monotonic() - began,
            "held_out": journal.held_out, "notes": [*notes, *([] if held else [_NONE_HELD_OUT])],
        }  # fmt: skip
        averaged = state.averaged_weights()
        if place.first:
            _write_final(job, averaged, train, told, device=place.device)
    # Nobody returns before the result is there.
    place.gather("finished")
    return Fitted(**weights.read_card(job.final_dir)["fitted"], weights=weights.digest(job.final_dir))


@dataclass(frozen=True)
class _Run:
    """The steps of a run, and what is done between them."""

    job: Job
    place: Place
    chance: Chance
    state: loop.State
    kept: Checkpoints
    snapshots: Checkpoints
    journal: Journal
    watch: Callable[[loop.Step], None] | None

    def learn(self, train: Samples, held: Samples) -> None:
        """Take the steps that are left."""
        settings, place = self.job.settings, self.place
        stream, steps = Stream(train, settings, place, self.chance), range(self.state.step, settings.steps)
        with (
            Stop(self.job.work_dir, looks=place.first) as stop,
            closing(ahead(stream.pieces, steps, threads=settings.loader_threads)) as batches,
        ):
            for step in loop.run(
                self.state, batches, chance=self.chance, settings=settings, place=place, stop=stop
            ):  # fmt: skip
                self.between(step, held)
                if step.stop and step.number < settings.steps:
                    self.kept.wait()
                    raise VidgenError(
                        f"Training was asked to stop; step {step.number} is saved",
                        move="The same command goes on from there",
                        exit_code=STOPPED_EXIT,
                    )

    def between(self, step: loop.Step, held: Samples) -> None:
        """Log, measure and save what is due after a step."""
        settings, number = self.job.settings, step.number
        last = number == settings.steps
        if self.watch is not None:
            self.watch(step)
        self.journal.step(step)
        if last or number % settings.log_every == 0:
            self.journal.row(step, self.state.skipped)
        measured: dict[str, float] = {}
        if last or number % settings.held_out_every == 0:
            measured = held_out(self.state, held, chance=self.chance, settings=settings, place=self.place)
            self.journal.measured(step, measured)
        if settings.ema_lengths and (last or number % settings.ema_snapshot_every == 0):
            steps = {name: training.steps for name, training in self.state.players.items()}
            told = {"steps": steps, "lengths": settings.ema_lengths}
            self.snapshots.save(number, self.state.tracked(), told)
        protected = settings.protect_every > 0 and number % settings.protect_every == 0
        if last or step.stop or protected or number % settings.checkpoint_every == 0:
            self.save(measured.get("loss", math.nan), f"every-{settings.protect_every}-{number}" if protected else None)

    def save(self, objective: float, protected: str | None) -> None:
        """Keep the state of now, and the value of its held-out objective where there is one."""
        facts = {"counters": self.state.counters(), "journal": self.journal.keep()}
        value = objective if math.isfinite(objective) else None
        # A run that goes on from here takes no snapshot of an earlier step again.
        self.snapshots.wait()
        self.kept.save(self.state.step, self.state.tensors(), facts, objective=value, protected=protected)


def finished(job: Job, digest: str | None = None) -> Fitted | None:
    """What the run came to, or None while it is not finished.

    Raises:
        VidgenError: The folder holds the result of another job than `digest`.

    """
    if not job.final_dir.exists():
        return None
    told = weights.read_card(job.final_dir)["fitted"]
    _check_same(job, told["job"], digest)
    return Fitted(**told, weights=weights.digest(job.final_dir))


def _open(job: Job, split: str, learner: Learner) -> Samples:
    reads_text = learner.reads_text and (job.space is None or job.space.text_dim > 0)
    scalars = () if job.space is None else [scalar.name for scalar in job.space.scalars]
    samples = Samples(job.data, split, text=reads_text, scalars=scalars, labels=learner.labels)
    if not samples and split == job.data.train:
        raise VidgenError("There is no clip to learn from", move="Loosen data.select, or add videos")
    if job.space is not None and samples:
        _check_space(job, samples, any_shape=learner.any_shape, all_there=split == job.data.train)
    return samples


def _check_space(job: Job, samples: Samples, *, any_shape: bool, all_there: bool) -> None:
    """Samples must be of the learner's shape; where it learns any, some of those that it trains on."""
    space = job.space
    assert space is not None
    other = [shape for shape in samples.buckets if shape != space.shape]
    lies = samples.text_shape[1] == space.text_dim and all(shape[0] == space.channels for shape in samples.buckets)
    if lies and not any_shape and len(samples.buckets) > 1:
        raise VidgenError(
            f"{job.name} learns clips of one shape, and these are of several",
            got=", ".join(bucket_name(shape) for shape in samples.buckets),
            allowed=bucket_name(space.shape),
            move="Choose a family that learns several, such as flow_matching, or leave data.shapes empty",
        )
    if not lies or (other and not any_shape) or (all_there and len(other) == len(samples.buckets)):
        raise VidgenError(
            "The samples do not lie in the space that the learner was built for",
            got=f"text width {samples.text_shape[1]}, shapes {', '.join(map(str, samples.buckets))}",
            allowed=f"text width {space.text_dim}, (channels, frames, height, width) {space.shape}",
            move="Build the family for the space of the latents and of the text encoder that were stored",
        )


def _check_joined(job: Job, train: Samples) -> None:
    """What learns by comparing samples must meet two at a time, of every shape."""
    settings = job.settings
    for shape, numbers in train.buckets.items():
        bucket = Bucket.of(shape, numbers, settings)
        if bucket.rate and bucket.batch < 2 * settings.pieces:
            raise VidgenError(
                f"{job.name} compares the samples of a step, and would meet one at a time",
                got=f"{bucket.batch} of {bucket_name(shape)} a step, in {settings.pieces} pieces",
                allowed=f"at least {2 * settings.pieces}",
                move="Raise training.batch or training.token_budget, or lower training.accumulate",
            )


def _resume(state: loop.State, kept: Checkpoints, place: Place) -> tuple[dict[str, Any] | None, list[str]]:
    """Put the newest good checkpoint into the state; returns the journal's part of it, and notes for the user."""
    found = kept.restore(state.tensors())
    notes = [f"Checkpoint {name} was damaged ({why}) and was passed over" for name, why in found.damaged.items()]
    if place.first:
        for note in notes:
            _log.warning("%s; the run goes on from step %d", note, found.step)
    if found.facts is None:
        return None, notes
    state.count_from(found.facts["counters"])
    return found.facts["journal"], notes


def _check_same(job: Job, found: str, digest: str | None) -> None:
    if digest not in (None, found):
        raise VidgenError(
            f"{job.work_dir} belongs to a run with other data or settings",
            move="Give this run a folder of its own, or remove that one",
        )


def _write_final(
    job: Job, averaged: Mapping[str, Tensor], train: Samples, told: Mapping[str, Any], *, device: str
) -> None:
    space = None if job.space is None else job.space.model_dump(mode="json")
    card = {"kind": job.kind, "name": job.name, "config": job.config, "space": space, "fitted": dict(told)}
    learner = job.build()
    learner.load_state_dict(averaged)
    learner.to(device).eval()
    with torch.no_grad():
        if isinstance(learner, Codec):
            learner.measure(_latents(learner, train))
    weights.save(job.final_dir, learner.state_dict(), card)


def _latents(codec: Codec, train: Samples) -> Tensor:
    """Latents of up to 512 samples of the commonest shape, one at a time, so that no batch of them has to fit."""
    device = next(codec.parameters()).device
    bucket = max(train.buckets.values(), key=len)
    numbers = bucket[Order(len(bucket), Chance(0)).first(_MEASURED_SAMPLES)].tolist()
    return torch.cat([codec.encode(train.batch([number], [0]).to(device).video) for number in numbers])
