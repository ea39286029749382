"""Tiny tables of clips, and jobs that learn from them."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import vidgen_core.families
from vidgen_core.encoders.hashed_words import Config as HashedWordsConfig
from vidgen_core.encoders.hashed_words import HashedWords
from vidgen_core.interfaces import Space
from vidgen_core.training.columns import WRITING, Stored, to_column, to_table
from vidgen_core.training.job import Data, Job
from vidgen_core.training.settings import TrainSettings

ROOT = Path(__file__).parents[3]
TOYS = Path(__file__).parent / "toys"
WORKER = Path(__file__).parent / "worker.py"
SHAPE = (2, 3, 4, 4)
TRAIN, HELD_OUT = 21, 7


@pytest.fixture(autouse=True)
def toy_families(monkeypatch):
    """The file is the registry: a folder more on the package's path is a family more."""
    monkeypatch.setattr(vidgen_core.families, "__path__", [*vidgen_core.families.__path__, str(TOYS)])
    torch.set_num_threads(1)


def write(file: Path, columns: dict, stored: Stored | None = None, **options) -> Path:
    table = pa.table(columns) if stored is None else to_table(columns, stored)
    pq.write_table(table, file, **{**WRITING, **options})
    return file


def write_data(folder: Path, *, train: int = TRAIN, held_out: int = HELD_OUT, seed: int = 0) -> Data:
    """Latents in two files, captions, embeddings."""
    folder.mkdir(parents=True, exist_ok=True)
    count = train + held_out
    latents = np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float16)
    ids = [f"clip{number:03d}" for number in range(count)]
    split = ["train"] * train + ["held_out"] * held_out
    stored = Stored(SHAPE, np.dtype(np.float16))
    files = []
    for number, rows in enumerate((range(0, count, 2), range(1, count, 2))):
        columns = {
            "clip_id": [ids[row] for row in rows],
            "split": [split[row] for row in rows],
            "latent": to_column(latents[list(rows)]),
        }
        files.append(write(folder / f"latents-{number}.parquet", columns, stored))
    captions = [f"word{number % 5} moves" if number % 6 else None for number in range(count)]
    captions_file = write(folder / "captions.parquet", {"clip_id": ids, "caption": captions})
    encoder = HashedWords(HashedWordsConfig(dim=6, tokens=3))
    known = sorted({caption for caption in captions if caption})
    text = encoder.encode(known)
    columns = {"caption": known, "tokens": to_column(text.tokens.numpy()), "mask": to_column(text.mask.numpy())}
    embeddings = write(folder / "embeddings.parquet", columns, Stored((3, 6), np.dtype(np.float32)))
    return Data(kind="latents", files=tuple(files), captions=(captions_file,), embeddings=(embeddings,))


def write_data_of_shapes(folder: Path) -> Data:
    """The same clips and captions, but every second one has one frame of 6 x 4."""
    data = write_data(folder)
    table = pq.read_table(data.files[1], columns=["clip_id", "split"])
    latents = np.random.default_rng(1).normal(size=(len(table), 2, 1, 6, 4)).astype(np.float16)
    stored = Stored(latents.shape[1:], latents.dtype)
    columns = {"clip_id": table["clip_id"], "split": table["split"], "latent": to_column(latents)}
    return data.model_copy(update={"files": (data.files[0], write(folder / "others.parquet", columns, stored))})


def make_settings(**changes) -> TrainSettings:
    plain = {
        "steps": 12, "batch": 4, "learning_rate": 1e-2, "warmup_steps": 2, "checkpoint_every": 4, "log_every": 3,
        "held_out_every": 5, "held_out_samples": 6,
    }  # fmt: skip
    return TrainSettings(**{**plain, **changes})


def make_job(data: Data, work_dir: Path, *, name: str = "toy", config: dict | None = None, **changes) -> Job:
    space = Space(channels=2, frames=3, height=4, width=4, text_dim=6 if name == "toy" else 0)
    return Job(
        kind="families", name=name, config=config or {}, space=space, settings=make_settings(**changes), data=data,
        work_dir=work_dir,
    )  # fmt: skip


@pytest.fixture
def data(tmp_path) -> Data:
    return write_data(tmp_path / "data")


class Cases:
    """What tests in this folder share; a fixture, because test modules import nothing from each other."""

    data = staticmethod(write_data)
    data_of_shapes = staticmethod(write_data_of_shapes)
    job = staticmethod(make_job)
    settings = staticmethod(make_settings)
    write = staticmethod(write)

    @staticmethod
    def start(job: Job, *, world: int = 1) -> list[subprocess.Popen]:
        """The workers of a run as processes of their own."""
        job.work_dir.mkdir(parents=True, exist_ok=True)
        job_file = job.work_dir / "job.json"
        job_file.write_text(job.model_dump_json())
        meeting = job.work_dir / f"meeting-{uuid.uuid4().hex}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
        return [
            subprocess.Popen(
                [sys.executable, str(WORKER), str(job_file), str(rank), str(world), str(meeting)],
                env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )
            for rank in range(world)
        ]  # fmt: skip

    @classmethod
    def finish(cls, job: Job, *, world: int = 1) -> None:
        """Run the workers to their end."""
        for worker in cls.start(job, world=world):
            _, errors = worker.communicate(timeout=120)
            assert worker.returncode == 0, errors.decode()[-2000:]


@pytest.fixture
def cases() -> type[Cases]:
    return Cases
