"""A step of the training engine against a bare PyTorch loop, Ray against a process, our networks against diffusers'.

`python -m tests.bench.bench_train [--rounds N]`; each module adds its own keys to .bench/train.json: `bench_loader` the
loader's. Ratios are of processor seconds, so that neighbors on the machine count little; the clock's stand beside.
"""

import argparse
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch

from tests.bench import bench_loader
from tests.bench.bench_networks import networks
from tests.bench.interleave import cpu_seconds, interleave, ratio, report, summary, wall_seconds
from vidgen_core.chance import Chance
from vidgen_core.families.flow_matching import Config
from vidgen_core.interfaces import Batch, Space
from vidgen_core.training import loop
from vidgen_core.training.checkpoints import Checkpoints
from vidgen_core.training.columns import WRITING, Stored, to_column, to_table
from vidgen_core.training.job import Data, Job
from vidgen_core.training.journal import Journal
from vidgen_core.training.launch import fit_here
from vidgen_core.training.order import Stream, ahead
from vidgen_core.training.place import Place
from vidgen_core.training.samples import Samples
from vidgen_core.training.settings import TrainSettings
from vidgen_core.training.speed import meter_of
from vidgen_core.training.store import store_at

ROUNDS, STEPS, CLIPS = 15, 10, 512
RAY_STEPS, RAY_WARM = 60, 10
SPACE = Space(channels=8, frames=5, height=8, width=8, text_dim=0)


def main() -> None:
    """Measure and write .bench/train.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of engine and bare loop; of launchers a third")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        job = _job(Path(folder))
        ways = {"engine": _engine(job), "bare": _bare(job)}
        steps = interleave({name: partial(_per_step, run) for name, run in ways.items()}, rounds=rounds)
        saving_s = _saving(job)
        launchers = _launchers(job, Path(folder), max(3, rounds // 3))
    spent, passed = _each(steps)
    spent_by, passed_by = _each(launchers)
    ratios = {
        "engine_over_bare": ratio(spent, "engine", over="bare"),
        "engine_over_bare_wall": ratio(passed, "engine", over="bare"),
        "ray_over_process": ratio(spent_by, "ray", over="process"),
        "ray_over_process_wall": ratio(passed_by, "ray", over="process"),
    }
    report(
        "train",
        {
            **{name: one["median"] for name, one in ratios.items()},
            "ratios": ratios,
            "parameters": sum(weight.numel() for weight in job.build().parameters()),
            "step_cpu_s": {name: summary(values) for name, values in {**spent, **spent_by}.items()},
            "step_wall_s": {name: summary(values) for name, values in {**passed, **passed_by}.items()},
            "checkpoint_stall_s": summary(saving_s),
            **networks(),
        },
        add=True,
    )
    bench_loader.main()


class Cost(NamedTuple):
    """Seconds of a step."""

    cpu: float
    wall: float


def _each(measured: dict[str, list[Cost]]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Processor seconds and seconds on the clock of each way."""
    return tuple(
        {way: [getattr(one, kind) for one in costs] for way, costs in measured.items()} for kind in Cost._fields
    )


def _per_step(run: Callable[[], None]) -> Cost:
    began, spent = time.perf_counter(), cpu_seconds(run)
    return Cost(spent / STEPS, (time.perf_counter() - began) / STEPS)


def _job(folder: Path) -> Job:
    latents = np.random.default_rng(0).normal(size=(CLIPS, *SPACE.shape)).astype(np.float16)
    columns = {
        "clip_id": [f"{number:06d}" for number in range(CLIPS)],
        "split": ["train"] * CLIPS,
        "latent": to_column(latents),
    }
    file = folder / "latents.parquet"
    pq.write_table(to_table(columns, Stored(SPACE.shape, np.dtype(np.float16))), file, **WRITING)
    settings = TrainSettings(
        steps=10**6, batch=8, schedule="constant", warmup_steps=0, weight_decay=0.0, checkpoint_every=10**6
    )
    return Job(kind="families", name="flow_matching", config=Config.tiny().model_dump(mode="json"), space=SPACE,
               settings=settings, data=Data(kind="latents", files=(file,)), work_dir=folder / "work")  # fmt: skip


def _engine(job: Job):
    """Ten steps of the engine: reading ahead, gradient, clipping, optimizer, weight average, journal, a row."""
    chance, place = Chance(job.settings.seed), Place()
    state = loop.State(job.build(), job.settings)
    samples = Samples(job.data, "train", text=False)
    stream = Stream(samples, job.settings, place, chance)
    meter = meter_of(job, state.learner, samples, place)
    journal = Journal(job, place, meter, recorder=None, progress=None, kept=None, step=0)

    def run() -> None:
        with closing(ahead(stream.pieces, range(state.step, state.step + STEPS))) as batches:
            for step in loop.run(state, batches, chance=chance, settings=job.settings, place=place):
                journal.step(step)
            journal.row(step, state.skipped)

    return run


def _bare(job: Job):
    """Ten steps as one would write them down: latents in memory, AdamW, clipping, an average by torch."""
    settings, chance = job.settings, Chance(job.settings.seed)
    learner = job.build()
    optimizer = torch.optim.AdamW(
        learner.parameters(), settings.learning_rate, settings.betas, weight_decay=0.0, fused=True
    )
    decay = torch.optim.swa_utils.get_ema_multi_avg_fn(settings.ema_decay)
    average = torch.optim.swa_utils.AveragedModel(learner, multi_avg_fn=decay)
    table = pq.read_table(job.data.files[0])
    values = np.frombuffer(b"".join(table["latent"].to_pylist()), np.float16).reshape(-1, *SPACE.shape)
    latents = torch.from_numpy(values.astype(np.float32))

    def batches() -> Iterator[Batch]:
        number = 0
        while True:
            for rows in torch.randperm(CLIPS).split(settings.batch):
                yield Batch(latents[rows], None, torch.arange(number, number + len(rows)))
                number += len(rows)

    source = batches()

    def run() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            for _, loss in learner.losses(next(source), chance):
                loss.backward()
            torch.nn.utils.clip_grad_norm_(learner.parameters(), settings.clip_norm)
            optimizer.step()
            average.update_parameters(learner)
            loss.item()

    return run


def _saving(job: Job) -> list[float]:
    """Seconds that a step waits for a checkpoint, which is written beside the next ones."""
    state, place = loop.State(job.build(), job.settings), Place()
    found = []
    with closing(Checkpoints(store_at(job.checkpoints), place, job="bench", keep=2)) as kept:
        for number in range(6):
            found.append(wall_seconds(lambda number=number: kept.save(number, state.tensors(), {})))
            kept.wait()
    return found[1:]


class Clock:
    """A recorder that notes when each row came and what its process had spent; rows are one step apart."""

    def __init__(self, file: Path) -> None:
        self._file, self._rows = file, []

    def log(self, step: int, values: object) -> None:
        """Note the times."""
        del step, values
        self._rows.append((time.process_time(), time.perf_counter()))

    def flush(self) -> None:
        """Nothing leaves before the end."""

    def close(self) -> None:
        """Write the times down."""
        np.save(self._file, np.array(self._rows))


def _launchers(job: Job, folder: Path, rounds: int) -> dict[str, list[Cost]]:
    """Median costs of a step, once started, of one worker in this process and on Ray."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0",
                   "RAY_worker_niceness": "0"}  # fmt: skip
    import ray

    from vidgen_core.training.ray_train import fit_on_ray

    settings = job.settings.model_copy(update={"steps": RAY_STEPS, "log_every": 1, "checkpoint_every": RAY_STEPS})
    number = 0

    def take(fit: Callable[[Job, Path], None]) -> Cost:
        nonlocal number
        number += 1
        times, work_dir = folder / f"times-{number}.npy", folder / f"run-{number}"
        fit(job.model_copy(update={"settings": settings, "work_dir": work_dir}), times)
        shutil.rmtree(work_dir)
        return Cost(*np.median(np.diff(np.load(times), axis=0)[RAY_WARM:], axis=0).tolist())

    def here(made: Job, times: Path) -> None:
        with closing(Clock(times)) as clock:
            fit_here(made, clock)

    session = tempfile.mkdtemp(prefix="vg", dir="/tmp")
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=200 * 2**20,
             logging_level="ERROR", log_to_driver=False, _temp_dir=session)  # fmt: skip
    try:
        ways = {
            "process": lambda: take(here),
            "ray": lambda: take(lambda made, times: fit_on_ray(made, open_recorder=partial(Clock, times))),
        }
        return interleave(ways, rounds=rounds)
    finally:
        ray.shutdown()
        shutil.rmtree(session, ignore_errors=True)


if __name__ == "__main__":
    main()
