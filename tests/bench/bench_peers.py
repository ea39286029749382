"""CPU seconds of the tools that people would take instead, over ours, on the same videos in interleaved runs.

`make bench-peers-setup` makes their environments; `python -m tests.bench.bench_peers` runs them and puts `peers` into
.bench/data.json, as `make bench-data` does. VIDGEN_BENCH_VIDEOS names the folder that has the videos of SMALL and MORE,
VIDGEN_PEERS the folder of the environments. What cannot run is not run, and the reason is told in its place.

Each run is a process of its own from start to end, imports and all, in an empty folder, with PROCESSES workers.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np

from tests.bench.interleave import FOLDER, summary

__all__ = ["peers"]

ROUNDS, PROCESSES, LIMIT_S = 2, 4, 900
# H.264 with several shots each, pictures and sound and no other stream: of what has more, video2dataset makes nothing.
SMALL = (
    "bbb480__big-buck-bunny-480p-30sec.mp4",
    "ffmpegpython__in.mp4",
    "moviepy__example.mp4",
    "pyscenedetect__testvideo.mp4",
)
MORE = (
    "gradio__art-critic.mp4",
    "mdnstore__rabbit320.mp4",
    "mmaction2__demo.mp4",
    "mmaction2__test.mp4",
    "moviepy__video_with_failing_audio.mp4",
    "sam2__sam2_720px_dark.mp4",
    "videofeatures__v_GGSY1Qvo990.mp4",
)
PEERS = ("video2dataset", "data_juicer", "nemo_curator")
# What we do: analysis and small clips; that and each shot in full size; the same as x264 is set for data-juicer.
OURS: Mapping[str, tuple[str, ...]] = {"raw": (), "encoded": ("encoded",), "encoded_veryfast": ("veryfast",)}
HERE = Path(__file__).parent


def peers(videos: Path | None) -> dict[str, Any]:
    """The peers' CPU over ours, and beside it what each costs and makes."""
    environments = Path(os.environ.get("VIDGEN_PEERS", FOLDER / "peers")).absolute()
    idle = _why_not(videos)
    missing = {
        name: f"not run: {idle or _absent(environments, name)}" for name in PEERS if idle or _absent(environments, name)
    }
    there = [name for name in PEERS if name not in missing]
    if videos is None or not there:
        return missing
    with tempfile.TemporaryDirectory() as made:
        small, large = (_folder(Path(made) / name, videos, files) for name, files in _SETS.items())
        ways = _ways(environments, there)
        few: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for number in range(ROUNDS):
            # Whoever was last is first: nobody has the quiet minutes alone. All start cold, so no round warms up.
            for name in list(ways) if number % 2 else reversed(list(ways)):
                few[name] += _tried(name, ways, small, missing)
        many = {name: cost for name in ways for cost in _tried(name, ways, large, missing)}
    there = [name for name in there if name not in missing]
    return {**missing, **{name: _against_ours(few, many, name) for name in there},
            "costs": {name: _costs(few[name], many[name]) for name in ways if name not in missing},
            "files": {"small": SMALL, "large": (*SMALL, *MORE)}, "processes": PROCESSES,
            "runner": "process pool"}  # fmt: skip


_SETS = {"small": SMALL, "large": (*SMALL, *MORE)}


def _why_not(videos: Path | None) -> str:
    if videos is None:
        return "VIDGEN_BENCH_VIDEOS names no folder of real videos"
    lacking = [name for name in (*SMALL, *MORE) if not (videos / name).is_file()]
    if lacking:
        return f"the folder of videos has no {', '.join(lacking)}"
    programs = [name for name in ("ffmpeg", "ffprobe") if not shutil.which(name)]
    return f"no {' and '.join(programs)} on the PATH, which the peers start" if programs else ""


def _absent(environments: Path, name: str) -> str:
    python = environments / name / "bin" / "python"
    return "" if python.exists() else f"no environment at {environments / name}; make bench-peers-setup makes it"


def _folder(folder: Path, videos: Path, names: Sequence[str]) -> Path:
    folder.mkdir()
    for name in names:
        shutil.copyfile(videos / name, folder / name)
    return folder


def _ways(environments: Path, there: Sequence[str]) -> dict[str, Callable[[Path], dict[str, float]]]:
    ours = {
        f"vidgen_{kind}": partial(_measured, (sys.executable, "-m", "tests.bench.peers.vidgen_run"), more)
        for kind, more in OURS.items()
    }
    theirs = {
        name: partial(
            _measured, (str(environments / name / "bin" / "python"), str(HERE / "peers" / f"{name}_run.py")), ()
        )
        for name in there
    }
    return {**ours, **theirs, "vidgen_command": partial(_measured, (), ()), "ffmpeg_null": _null}


def _tried(
    name: str, ways: Mapping[str, Callable[[Path], dict[str, float]]], videos: Path, missing: dict[str, str]
) -> list[dict[str, float]]:
    """One run of a way, or none where a peer fails, which costs its own row and is told there."""
    if name in missing:
        return []
    try:
        return [ways[name](videos)]
    except RuntimeError as error:
        if name not in PEERS:
            raise
        missing[name] = f"not run: {error}"
        return []


def _measured(program: Sequence[str], more: Sequence[str], videos: Path) -> dict[str, float]:
    """Cost of a program over a folder, and what it made; no program is our command line."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        command = [*program, str(videos), str(out), str(PROCESSES), *more] if program else _command(videos, out)
        cost = _cost(command, out)
        made = list(_media(out))
        cost |= {
            "files": len(made),
            "frames": sum(frames for frames, _ in made),
            "bytes": sum(size for _, size in made),
        }
    return cost


def _command(videos: Path, home: Path) -> list[str]:
    """What a user types, of the same work as `vidgen_run` without encoded shots; with Prefect and Ray."""
    off = ("min_motion", "min_keep_area", "min_brightness", "max_brightness", "min_distinct_share")
    changes = {"frames": 16, "height": 64, "width": 64, "frame_rate": '"8"', "select.need_caption": "false"}
    changes |= {f"select.{rule}": "null" for rule in off}
    sets = [word for name, value in changes.items() for word in ("--set", f"data.{name}={value}")]
    return [sys.executable, "-m", "flows.cli", "prepare", "--recipe", "real.tiny", "--videos", str(videos),
            "--home", str(home), "--set", f"cores={PROCESSES}", *sets]  # fmt: skip


def _null(videos: Path) -> dict[str, float]:
    """The ffmpeg program decoding each file on one thread, and nothing else."""
    program = imageio_ffmpeg.get_ffmpeg_exe()
    each = f'for f in "$0"/*; do "{program}" -v error -nostdin -threads 1 -i "$f" -map 0:v:0 -f null -; done'
    with tempfile.TemporaryDirectory() as folder:
        return {**_cost(["sh", "-c", each, str(videos)], Path(folder)), "files": 0, "frames": 0, "bytes": 0}


def _cost(command: Sequence[str], out: Path) -> dict[str, float]:
    result, said = out / "cost.json", out / "said.txt"
    with said.open("wb") as stream:
        measure = [sys.executable, str(HERE / "process_cost.py"), str(result), str(LIMIT_S), *command]
        subprocess.run(measure, stdout=stream, stderr=subprocess.STDOUT, check=False)
    cost: dict[str, float] = json.loads(result.read_text())
    if cost.pop("exit") != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{said.read_text(errors='replace')[-3000:]}")
    return cost


def _media(out: Path) -> Iterator[tuple[int, int]]:
    """Frames and bytes of each mp4 file that a tool has written, also inside of tars."""
    for file in out.rglob("*.mp4"):
        with file.open("rb") as stream:
            yield _frames(stream), file.stat().st_size
    for file in out.rglob("*.tar"):
        with tarfile.open(file) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.name.endswith(".mp4") else None
                if stream is not None:
                    yield _frames(BytesIO(stream.read())), member.size


def _frames(stream: Any) -> int:
    with av.open(stream) as opened:
        return sum(packet.size > 0 for packet in opened.demux(video=0))


def _against_ours(
    few: Mapping[str, list[dict[str, float]]], many: Mapping[str, dict[str, float]], name: str
) -> dict[str, Any]:
    """Their CPU over ours round by round; `marginal` is that of what the larger set adds, so without start-up."""
    found: dict[str, Any] = {}
    for kind in OURS:
        ours = f"vidgen_{kind}"
        ratios = [their["cpu_s"] / our["cpu_s"] for their, our in zip(few[name], few[ours], strict=True)]
        added = [many[one]["cpu_s"] - float(np.median([run["cpu_s"] for run in few[one]])) for one in (name, ours)]
        found[kind] = {
            **summary(ratios),
            "large": many[name]["cpu_s"] / many[ours]["cpu_s"],
            "marginal": added[0] / added[1],
        }
    return found


def _costs(few: Sequence[dict[str, float]], many: dict[str, float]) -> dict[str, Any]:
    """Medians and spread of a way on the small set, and its one run on the large one."""
    small = {
        key: summary([run[key] for run in few]) if key == "cpu_s" else float(np.median([run[key] for run in few]))
        for key in many
    }
    return {"small": small, "large": many}


def main() -> None:
    """Measure, and put it into .bench/data.json."""
    given = os.environ.get("VIDGEN_BENCH_VIDEOS")
    file = FOLDER / "data.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    found["peers"] = peers(Path(given) if given else None)
    FOLDER.mkdir(exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["peers"], indent=1))  # noqa: T201 - a program of its own


if __name__ == "__main__":
    main()
