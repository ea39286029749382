"""A step of the training engine against a bare PyTorch loop, and of our networks against those of diffusers.

`python -m tests.bench.bench_train`; each module adds its own keys to .bench/train.json: `bench_loader` the loader's.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from tests.bench import bench_loader
from tests.bench.bench_networks import networks
from tests.bench.interleave import interleave, ratio, report, summary, wall_seconds
from vidgen_core.chance import Chance
from vidgen_core.families.flow_matching import Config
from vidgen_core.interfaces import Batch, Space
from vidgen_core.training import loop
from vidgen_core.training.columns import WRITING, Stored, to_column, to_table
from vidgen_core.training.job import Data, Job
from vidgen_core.training.order import Stream
from vidgen_core.training.place import Place
from vidgen_core.training.samples import Samples
from vidgen_core.training.settings import TrainSettings

ROUNDS, STEPS, CLIPS = 9, 10, 512
SPACE = Space(channels=8, frames=5, height=8, width=8, text_dim=0)


def main() -> None:
    """Measure and write .bench/train.json."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        job = _job(Path(folder))
        ways = {"engine": _engine(job), "bare": _bare(job)}
        measured = interleave(
            {name: lambda run=run: wall_seconds(run) / STEPS for name, run in ways.items()}, rounds=ROUNDS
        )
    report(
        "train",
        {
            "parameters": sum(weight.numel() for weight in job.build().parameters()),
            "step_s": {name: summary(values) for name, values in measured.items()},
            "engine_over_bare": ratio(measured, "engine", over="bare"),
            **networks(),
        },
        add=True,
    )
    bench_loader.main()


def _job(folder: Path) -> Job:
    latents = np.random.default_rng(0).normal(size=(CLIPS, *SPACE.shape)).astype(np.float16)
    columns = {
        "clip_id": [f"{number:06d}" for number in range(CLIPS)],
        "split": ["train"] * CLIPS,
        "latent": to_column(latents),
    }
    file = folder / "latents.parquet"
    pq.write_table(to_table(columns, Stored(SPACE.shape, np.dtype(np.float16))), file, **WRITING)
    settings = TrainSettings(steps=10**6, batch=32, schedule="constant", warmup_steps=0, weight_decay=0.0)
    return Job(kind="families", name="flow_matching", config=Config.tiny().model_dump(mode="json"), space=SPACE,
               settings=settings, data=Data(kind="latents", files=(file,)), work_dir=folder / "work")  # fmt: skip


def _engine(job: Job):
    """Ten steps of the loop: reading, gradient, clipping, optimizer, weight average."""
    chance = Chance(job.settings.seed)
    state = loop.State(job.build(), job.settings)
    stream = Stream(Samples(job.data, "train", text=False), job.settings, Place(), chance)

    def run() -> None:
        batches = (stream.pieces(step) for step in range(state.step, state.step + STEPS))
        for _ in loop.run(state, batches, chance=chance, settings=job.settings, place=Place()):
            pass

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


if __name__ == "__main__":
    main()
