"""What `prepare` costs: CPU seconds against the ffmpeg program, which only decodes; memory; and deciding again.

Run it with `python -m tests.bench.bench_data`. Videos are those of the folder VIDGEN_BENCH_VIDEOS, or sample videos.
Where a `cuts.json` lies beside that folder, shot detectors are compared on the films in it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio_ffmpeg

from data_prep.analyze import analyze
from data_prep.clips import cut
from data_prep.decode import Undecodable
from data_prep.index import index_file
from data_prep.samples import make
from data_prep.settings import DataSettings
from data_prep.sources import Source, identify, list_files
from tests.bench import bench_peers, bench_rethreshold, bench_shots
from tests.bench.interleave import cpu_seconds, interleave, ratio, report, summary
from tests.processes import run_watched

ROUNDS = 3
LARGEST_BYTES = 4_000_000
# A run of its own, so that the memory is that of `prepare` and of nothing else.
PREPARE = """
import json, sys
from pathlib import Path
from data_prep.prepare import prepare
from data_prep.run import PoolRunner
from data_prep.select import Select
from data_prep.settings import DataSettings
from data_prep.tables import Tables

if __name__ == "__main__":
    settings = DataSettings(select=Select(need_caption=False))
    done = prepare(Path(sys.argv[1]), Tables(Path(sys.argv[2])), settings, PoolRunner(1))
    print(json.dumps({"decoded_per_source_frame": done.decoded_per_source_frame}))
"""


def main() -> None:
    """Measure and write .bench/data.json, part after part."""
    given = os.environ.get("VIDGEN_BENCH_VIDEOS")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(given or made)
        if not given:
            make(folder, count=24, seed=0)
        sources, frames, spans = _decodable(folder)
        work = {
            "analyze": lambda source: analyze(source, DataSettings()),
            "cut": lambda source: list(cut(source.file, spans[source.source_id], DataSettings())),
            "index": lambda source: index_file(source.file),
            "ffmpeg_null": lambda source: _decode(source.file),
        }
        work |= {
            f"shots_{name}": lambda source, find=find: find(source.file) for name, find in bench_shots.WHOLE.items()
        }
        measured = interleave({name: _each(one, sources) for name, one in work.items()}, rounds=ROUNDS)
        hours = sum(frames) / 3600
        report(
            "data",
            {
                "videos": "given" if given else "samples",
                "files": len(sources),
                "hours": hours,
                "cpu_s": {name: summary(values) for name, values in measured.items()},
                "prepare_over_null": ratio(measured, "analyze", over="ffmpeg_null"),
                "cut_over_null": ratio(measured, "cut", over="ffmpeg_null"),
                "shots_over_null": ratio(measured, "shots_quick", over="ffmpeg_null"),
                "shots_of_all_frames_over_null": ratio(measured, "shots_thumbnails", over="ffmpeg_null"),
                "peers_shots_over_null": {
                    name: ratio(measured, f"shots_{name}", over="ffmpeg_null") for name in bench_shots.PEERS
                },
                "index_hours_per_core_second": summary([hours / value for value in measured["index"]]),
            },
        )
        # What takes longest comes last, and what was measured before it is kept.
        report("data", _prepared(sources), add=True)
        report("data", bench_rethreshold.measure(), add=True)
        report("data", {"shots": _shots(folder)}, add=True)
        report("data", {"peers": bench_peers.peers(folder if given else None)}, add=True)


def _prepared(sources: list[Source]) -> dict[str, Any]:
    """What a whole run over the sources says of itself: frames decoded for each pass, and MB of its processes."""
    with tempfile.TemporaryDirectory() as folder:
        videos, program = Path(folder) / "videos", Path(folder) / "program.py"
        videos.mkdir()
        for source in sources:
            (videos / Path(source.uri).name).symlink_to(source.file.resolve())
        program.write_text(PREPARE)
        command = [sys.executable, str(program), str(videos), str(Path(folder) / "tables")]
        env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        told, driver, largest = run_watched(command, env)
        return json.loads(told.splitlines()[-1]) | {
            "peak_rss_mb": {"driver": driver / 1024, "largest_worker": largest / 1024}
        }


def _decodable(folder: Path) -> tuple[list[Source], list[float], dict[str, list[dict[str, Any]]]]:
    """The sources that decode, their lengths in seconds, and all their spans."""
    found: list[Source] = []
    lengths: list[float] = []
    spans: dict[str, list[dict[str, Any]]] = {}
    for source in identify(list_files(folder), folder):
        if source.file.stat().st_size > LARGEST_BYTES:
            continue
        try:
            analysis = analyze(source, DataSettings())
        except Undecodable:
            continue
        found.append(source)
        lengths.append(analysis.source["duration_s"])
        spans[source.source_id] = [span | {"split": "train"} for span in analysis.spans]
    return found, lengths, spans


def _each(work: Callable[[Source], object], sources: list[Source]) -> Callable[[], float]:
    return lambda: cpu_seconds(lambda: [work(source) for source in sources])


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
