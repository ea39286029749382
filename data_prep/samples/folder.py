"""Make a folder of sample videos."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from data_prep.samples.files import write
from data_prep.samples.plan import FRAME_RATE, Film, film
from vidgen_core.errors import VidgenError

__all__ = ["Made", "make"]


@dataclass(frozen=True)
class Made:
    """What was made.

    Attributes:
        files: Every video file, sorted, the broken ones too.
        broken: Those that were broken on purpose.
        shots: Shots in the whole files.
        video_s: Seconds of video in the whole files.
        seconds: How long it took.

    """

    files: tuple[Path, ...]
    broken: tuple[Path, ...]
    shots: int
    video_s: float
    seconds: float


def make(
    directory: Path,
    *,
    count: int,
    seed: int = 0,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Made:
    """Make `count` sample videos in a directory, each with its captions (.vtt) and its truth (.truth.json).

    The bytes are a function of the seed and a file's number: another count or number of workers changes no file.

    Args:
        directory: Created when it is not there; files of the same name are replaced.
        count: How many videos.
        seed: Another seed, other videos.
        workers: Videos made at a time; 0 for one a core.
        progress: Called with (done, total) after each file.

    Raises:
        VidgenError: The count is below one, the directory cannot be made, or ffmpeg could not write into it.

    """
    if count < 1:
        raise VidgenError("There is no such number of videos", got=count, allowed="1 or more")
    began = time.monotonic()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        move = "Name a folder that may be created."
        raise VidgenError(f"No folder can be made here: {error.strerror}", got=str(directory), move=move) from error
    films = [film(seed, number) for number in range(count)]
    _write_all(films, directory, workers or len(os.sched_getaffinity(0)), progress)
    whole = [planned for planned in films if planned.broken is None]
    return Made(
        files=tuple(directory / planned.name for planned in films),
        broken=tuple(directory / planned.name for planned in films if planned.broken is not None),
        shots=sum(len(planned.shots) for planned in whole),
        video_s=float(sum(planned.frames for planned in whole) / FRAME_RATE),
        seconds=time.monotonic() - began,
    )


def _write_all(films: list[Film], directory: Path, workers: int, progress: Callable[[int, int], None] | None) -> None:
    """Threads are enough: most of the time goes to numpy and to ffmpeg's own process."""
    with ThreadPoolExecutor(workers) as pool:
        pending = [pool.submit(write, planned, directory) for planned in films]
        try:
            for done, future in enumerate(as_completed(pending), start=1):
                future.result()
                if progress is not None:
                    progress(done, len(films))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
