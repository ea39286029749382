"""CPU seconds of the analysis of videos against the ffmpeg program, which only decodes them.

Run it with `python -m tests.bench.bench_data`. Videos are those of the folder VIDGEN_BENCH_VIDEOS, or sample videos.
Where a `cuts.json` lies beside that folder, shot detectors are compared on the films in it.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio_ffmpeg

from data_prep.analyze import analyze
from data_prep.decode import Undecodable
from data_prep.samples import make
from data_prep.settings import DataSettings
from data_prep.sources import Source, identify, list_files
from tests.bench import bench_peers, bench_shots
from tests.bench.interleave import cpu_seconds, interleave, ratio, report, summary

ROUNDS = 3
LARGEST_BYTES = 4_000_000


def main() -> None:
    """Measure and write .bench/data.json."""
    given = os.environ.get("VIDGEN_BENCH_VIDEOS")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(given or made)
        if not given:
            make(folder, count=24, seed=0)
        sources, frames = _decodable(folder)
        ways = {
            "analyze": lambda: cpu_seconds(lambda: [analyze(source, DataSettings()) for source in sources]),
            "ffmpeg_null": lambda: cpu_seconds(lambda: [_decode(source.file) for source in sources]),
        }
        ways |= {f"shots_{name}": _each(find, sources) for name, find in bench_shots.WHOLE.items()}
        measured = interleave(ways, rounds=ROUNDS)
        hours = sum(frames) / 3600
        report(
            "data",
            {
                "videos": "given" if given else "samples",
                "files": len(sources),
                "hours": hours,
                "cpu_s": {name: summary(values) for name, values in measured.items()},
                "prepare_over_null": ratio(measured, "analyze", over="ffmpeg_null"),
                "shots_over_null": ratio(measured, "shots_quick", over="ffmpeg_null"),
                "shots_of_all_frames_over_null": ratio(measured, "shots_thumbnails", over="ffmpeg_null"),
                "peers_shots_over_null": {
                    name: ratio(measured, f"shots_{name}", over="ffmpeg_null") for name in bench_shots.PEERS
                },
                "shots": _shots(folder),
                "peers": bench_peers.peers(folder if given else None),
                "index_hours_per_core_second": summary([hours / value for value in measured["analyze"]]),
            },
        )


def _decodable(folder: Path) -> tuple[list[Source], list[float]]:
    """The sources that decode, and their lengths in seconds."""
    found: list[Source] = []
    lengths: list[float] = []
    for source in identify(list_files(folder), folder):
        if source.file.stat().st_size > LARGEST_BYTES:
            continue
        try:
            lengths.append(analyze(source, DataSettings()).source["duration_s"])
        except Undecodable:
            continue
        found.append(source)
    return found, lengths


def _each(find: Callable[[Path], object], sources: list[Source]) -> Callable[[], float]:
    return lambda: cpu_seconds(lambda: [find(source.file) for source in sources])


def _shots(folder: Path) -> dict[str, Any] | None:
    """What our detector finds in the films with known cuts, and beside it what its peers find."""
    data = folder.parent
    if not (data / "cuts.json").exists():
        return None
    rows = bench_shots.found(data)
    return {**rows.pop("thumbnails"), "quick": rows.pop("quick"), "peers": rows}


def _decode(file: Path) -> None:
    """Decode the video on one thread and throw it away, as `ffmpeg -f null` does."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "quiet", "-nostdin", "-threads", "1", "-i", str(file)]
    # Some files are damaged: ffmpeg then ends with an error after it has decoded what it could.
    subprocess.run([*command, "-map", "0:v:0", "-threads", "1", "-f", "null", "-"], check=False)


if __name__ == "__main__":
    main()
