"""The loader of latents against a shuffled copy in memory and against other libraries, in one interleaved run.

`python -m tests.bench.bench_loader`. The others live in an environment of their own, because their pins are not ours:
`make bench-peers-setup` makes it in the folder VIDGEN_PEERS. Where there is none, they are "not run".
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from tests.bench.interleave import FOLDER, interleave, ratio, report, summary
from tests.bench.loader_peers import BATCH, PEERS, SAMPLES, SHAPE, SHARD, latents, order
from vidgen_core.chance import Chance
from vidgen_core.families.flow_matching import Config
from vidgen_core.interfaces import Space
from vidgen_core.training import loop
from vidgen_core.training.columns import WRITING, Stored, to_column, to_table
from vidgen_core.training.job import Data
from vidgen_core.training.order import Stream, ahead
from vidgen_core.training.place import Place
from vidgen_core.training.samples import Samples
from vidgen_core.training.settings import TrainSettings

ROUNDS, STEPS = 7, 12
GIGABYTES = SAMPLES * 2 * int(np.prod(SHAPE)) / 1e9


def main() -> None:
    """Measure and add to .bench/train.json."""
    report("train", measure(), add=True)


def measure() -> dict[str, Any]:
    """The keys of this benchmark."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        samples = Samples(Data(kind="latents", files=_write(folder)), "train", text=False)
        _check(samples)
        ways = {
            "vidgen": lambda: _cpu(_ours(samples)), "vidgen, direct": lambda: _cpu(_direct(samples)),
            "memcpy": lambda: _cpu(_copies),
        }  # fmt: skip
        peers, why_not = {}, {}
        for peer in PEERS:
            process, told = _started(peer, folder)
            if process is None:
                why_not[peer] = told
                continue
            stack.callback(_stopped, process)
            for way in told.split(","):
                peers.setdefault(peer, []).append(f"{peer} {way}")
                ways[f"{peer} {way}"] = lambda process=process, way=way: _asked(process, way)
        measured = interleave(ways, rounds=ROUNDS)
        wait = _data_wait(samples)
    # Of a peer the faster way counts.
    best = {peer: min(names, key=lambda name: np.median(measured[name])) for peer, names in peers.items()}
    over = {peer: ratio(measured, best[peer], over="vidgen") for peer in best}
    speeds = {name: summary([GIGABYTES / seconds for seconds in values]) for name, values in measured.items()}
    return {
        "loader_gb_per_core_second": speeds["vidgen"]["median"],
        "loader_gb_per_core_second_direct": speeds["vidgen, direct"]["median"],
        "loader_over_memcpy": ratio(measured, "memcpy", over="vidgen")["median"],
        "loader_over_memcpy_direct": ratio(measured, "memcpy", over="vidgen, direct")["median"],
        "loader_over": {peer: over[peer]["median"] if peer in over else f"not run: {why_not[peer]}" for peer in PEERS},
        "loader": {"gb_per_core_second": speeds, "over": over, "data_wait_share": wait, "samples": SAMPLES,
                   "bytes_a_sample": 2 * int(np.prod(SHAPE)), "batch": BATCH},
    }  # fmt: skip


def _write(folder: Path) -> tuple[Path, ...]:
    values, files = list(latents()), []
    for start in range(0, SAMPLES, SHARD):
        shard = np.stack(values[start : start + SHARD])
        ids = [f"{number:06d}" for number in range(start, start + len(shard))]
        columns = {"clip_id": ids, "split": ["train"] * len(ids), "latent": to_column(shard)}
        files.append(folder / f"{start:06d}.parquet")
        pq.write_table(to_table(columns, Stored(SHAPE, shard.dtype)), files[-1], **WRITING)
    return tuple(files)


def _settings() -> TrainSettings:
    return TrainSettings(steps=SAMPLES // BATCH, batch=BATCH)


def _ours(samples: Samples) -> Callable[[], None]:
    """An epoch as a run reads it: globally shuffled, ahead on a thread; CPU seconds are those of both threads."""

    def run() -> None:
        stream = Stream(samples, _settings(), Place(), Chance(0))
        with closing(ahead(stream.pieces, range(SAMPLES // BATCH))) as steps:
            for pieces in steps:
                pieces[0].video[0, 0, 0, 0, 0].item()

    return run


def _direct(samples: Samples) -> Callable[[], None]:
    """The same without the thread, which the others do not have here either: a batch is freed before the next."""

    def run() -> None:
        stream = Stream(samples, _settings(), Place(), Chance(0))
        for step in range(SAMPLES // BATCH):
            stream.pieces(step)[0].video[0, 0, 0, 0, 0].item()

    return run


def _check(samples: Samples) -> None:
    """Every sample once, bit for bit."""
    stream, values, met = Stream(samples, _settings(), Place(), Chance(0)), list(latents()), []
    for pieces in ahead(stream.pieces, range(SAMPLES // BATCH)):
        for video in pieces[0].video.numpy():
            met.append(int(video[0, 0, 0, 0]))
            assert video.tobytes() == values[met[-1]].tobytes()
    assert sorted(met) == list(range(SAMPLES))


SOURCE = np.stack(list(latents()))


def _copies() -> None:
    """The limit: the same batches out of memory."""
    numbers = order()
    for start in range(0, SAMPLES, BATCH):
        batch = np.empty((BATCH, *SHAPE), np.float16)
        for place, number in enumerate(numbers[start : start + BATCH]):
            batch[place] = SOURCE[number]


def _cpu(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _started(peer: str, folder: Path) -> tuple[subprocess.Popen[str] | None, str]:
    """A peer's process and its ways, or None and why not."""
    python = Path(os.environ.get("VIDGEN_PEERS", FOLDER / "peers")) / "loaders" / "bin" / "python"
    if not python.exists():
        return None, f"there is no {python}; make bench-peers-setup makes it"
    process = subprocess.Popen(
        [str(python), str(Path(__file__).with_name("loader_peers.py")), peer, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(folder / f"{peer}.log").open("w"), text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    told = _answer(process, "ready")
    if told is None:
        last = (folder / f"{peer}.log").read_text().strip().splitlines()[-1:]
        return None, last[0] if last else "it died"
    return process, told


def _answer(process: subprocess.Popen[str], word: str) -> str | None:
    """What follows a word at the beginning of a line; libraries print lines of their own."""
    for line in process.stdout or ():
        if line.startswith(word):
            return line.removeprefix(word).strip()
    return None


def _asked(process: subprocess.Popen[str], way: str) -> float:
    process.stdin.write(f"{way}\n")
    process.stdin.flush()
    told = _answer(process, "took")
    assert told is not None, f"{way} died"
    return float(told)


def _stopped(process: subprocess.Popen[str]) -> None:
    process.stdin.close()
    process.wait(timeout=60)


def _data_wait(samples: Samples) -> float:
    """Share of a training's time in which it waits for samples; the first steps fill the queue."""
    # One sample a step, or the tiny family takes half a minute for one on a processor.
    settings, chance = TrainSettings(steps=STEPS, batch=1), Chance(0)
    space = Space(channels=SHAPE[0], frames=SHAPE[1], height=SHAPE[2], width=SHAPE[3], text_dim=0)
    state = loop.State(Config.tiny().build(space), settings)
    stream = Stream(samples, settings, Place(), chance)
    waits, began = [], time.perf_counter()
    with closing(ahead(stream.pieces, range(STEPS))) as batches:
        for step in loop.run(state, batches, chance=chance, settings=settings, place=Place()):
            waits.append(step.wait_s)
            if len(waits) == 2:
                began = time.perf_counter()
    return sum(waits[2:]) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
