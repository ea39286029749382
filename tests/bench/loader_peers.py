"""Other libraries' loaders over the same latents, in an interpreter of their own: `python loader_peers.py PEER DIR`.

Writes the data set, then answers each line of input with the CPU seconds of one shuffled epoch, batched into tensors.
"""

import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

SHAPE, SAMPLES, SHARD, BATCH = (4, 16, 32, 32), 2000, 500, 16


def latents() -> Iterator[np.ndarray]:
    """The samples: half precision, correlated in time as latents are, each with its number in it."""
    base = np.random.default_rng(0).standard_normal((64, *SHAPE)).astype(np.float32)
    for frame in range(1, SHAPE[1]):
        base[:, :, frame] = 0.9 * base[:, :, frame - 1] + 0.43 * base[:, :, frame]
    half = base.astype(np.float16)
    for number in range(SAMPLES):
        sample = half[number % 64].copy()
        sample[0, 0, 0, 0] = number
        yield sample


def epoch(samples: Iterator[torch.Tensor]) -> set[int]:
    """Batches of samples; the numbers that were met."""
    met, batch = set(), torch.empty((BATCH, *SHAPE), dtype=torch.float16)
    for place, sample in enumerate(samples):
        batch[place % BATCH] = sample
        if place % BATCH == BATCH - 1:
            met |= set(batch[:, 0, 0, 0, 0].int().tolist())
            batch = torch.empty_like(batch)
    return met


def order() -> list[int]:
    """A random order of all samples."""
    numbers = list(range(SAMPLES))
    random.Random(1).shuffle(numbers)
    return numbers


def mds(folder: Path) -> dict[str, Callable[[], Iterator[torch.Tensor]]]:
    """MosaicML Streaming: its own shuffle, and access by number."""
    from streaming import MDSWriter, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    columns = {"latent": f"ndarray:float16:{','.join(map(str, SHAPE))}"}
    with MDSWriter(out=str(folder), columns=columns, size_limit=SHARD * 2 * int(np.prod(SHAPE))) as writer:
        for sample in latents():
            writer.write({"latent": sample})
    made = StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH, num_canonical_nodes=1)
    return {
        "shuffle": lambda: (torch.from_numpy(row["latent"]) for row in made),
        "by number": lambda: (torch.from_numpy(made[number]["latent"]) for number in order()),
    }


def litdata(folder: Path) -> dict[str, Callable[[], Iterator[torch.Tensor]]]:
    """LitData: its own shuffle, and access by number."""
    from litdata import StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder), chunk_bytes=SHARD * 2 * int(np.prod(SHAPE)))
    for number, sample in enumerate(latents()):
        writer[number] = torch.from_numpy(sample)
    writer.done()
    writer.merge()
    by_number = StreamingDataset(str(folder))
    return {
        "shuffle": lambda: iter(StreamingDataset(str(folder), shuffle=True, drop_last=False)),
        "by number": lambda: (by_number[number] for number in order()),
    }


def webdataset(folder: Path) -> dict[str, Callable[[], Iterator[torch.Tensor]]]:
    """WebDataset: tar files through a shuffle buffer."""
    import webdataset as wds

    with wds.ShardWriter(str(folder / "%05d.tar"), maxcount=SHARD, verbose=0) as writer:
        for number, sample in enumerate(latents()):
            writer.write({"__key__": f"{number:06d}", "npy": sample})
    files = sorted(map(str, folder.glob("*.tar")))

    def rows() -> Iterator[torch.Tensor]:
        stream = wds.WebDataset(files, shardshuffle=len(files), empty_check=False).shuffle(SAMPLES)
        return (torch.from_numpy(sample) for (sample,) in stream.decode().to_tuple("npy"))

    return {"shuffle": rows}


PEERS = {"mds": mds, "litdata": litdata, "webdataset": webdataset}


def main() -> None:
    """Answer lines `way` with CPU seconds."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[2]) / sys.argv[1]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ways = PEERS[sys.argv[1]](folder)
    print("ready", ",".join(ways), flush=True)  # noqa: T201 - how it answers
    for line in sys.stdin:
        began = time.process_time()
        met = epoch(ways[line.strip()]())
        seconds = time.process_time() - began
        assert met == set(range(SAMPLES)), len(met)
        print("took", seconds, flush=True)  # noqa: T201 - how it answers


if __name__ == "__main__":
    main()
