"""Shot detectors side by side: how much they find, what they find falsely, and what they cost.

    python -m tests.bench.bench_shots --data DATA [--films FILMS --set check --rounds 3] [--out FILE.json]

DATA holds `cuts.json`, `multishot/` and `videos/`. With FILMS also the films of `shot_films.py`, made there where
missing. A transition is found where the middle of an answer lies within 2 frames of a cut, or within the span of a
gradual one; each answer counts once, what is left over is false, and counted as what it says it is.
"""
# ruff: noqa: T201

import argparse
import importlib.util
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import av
import numpy as np

from data_prep.shots import ShotFinder, ShotSettings, Transition
from tests.bench import shot_films

_NEAR_FRAMES = 2


@dataclass
class Count:
    """Transitions found, missed and false, of either sort."""

    hard: int = 0
    hard_missed: int = 0
    hard_false: int = 0
    gradual: int = 0
    gradual_missed: int = 0
    gradual_false: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def hard_f1(self) -> float:
        return _f1(self.hard, self.hard_missed, self.hard_false)

    @property
    def gradual_f1(self) -> float:
        return _f1(self.gradual, self.gradual_missed, self.gradual_false)

    @property
    def false(self) -> int:
        return self.hard_false + self.gradual_false


def _f1(found: int, missed: int, false: int) -> float:
    return 2 * found / max(1, 2 * found + missed + false)


def count(found: list[Transition], truth: Iterable[dict]) -> Count:
    """Compare answers with transitions in the form of `cuts.json`."""
    left, out = list(found), Count()
    for cut in truth:
        hard = cut["type"] == "hard"
        low, high = (
            (cut["start"], cut["end"]) if not hard else (cut["frame"] - _NEAR_FRAMES, cut["frame"] + _NEAR_FRAMES)
        )
        hits = [answer for answer in left if low <= answer.middle <= high]
        if hits:
            left.remove(min(hits, key=lambda answer: abs(answer.middle - cut["frame"])))
        out += Count(hard=int(hard and bool(hits)), hard_missed=int(hard and not hits),
                     gradual=int(not hard and bool(hits)), gradual_missed=int(not hard and not hits))  # fmt: skip
    return out + Count(hard_false=sum(a.hard for a in left), gradual_false=sum(not a.hard for a in left))


def on_thumbs(detector: str) -> Callable[[Path, np.ndarray], list[Transition]]:
    """One of ours, on the thumbnails of the pass."""

    def run(file: Path, thumbs: np.ndarray) -> list[Transition]:
        finder = ShotFinder(ShotSettings(detector=detector))
        finder.push(thumbs)
        return finder.finish().transitions

    return run


def on_file(name: str) -> Callable[[Path, np.ndarray], list[Transition]]:
    """PySceneDetect as its users call it: it opens and decodes the file itself, at its own size."""

    def run(file: Path, thumbs: np.ndarray) -> list[Transition]:
        import scenedetect

        scenes = scenedetect.detect(str(file), getattr(scenedetect, name)(), start_in_scene=True)
        return [Transition(scene[0].frame_num, scene[0].frame_num) for scene in scenes[1:]]

    return run


Way = Callable[[Path, np.ndarray], list[Transition]]
OURS: dict[str, Way] = {"thumbnails": on_thumbs("thumbnails")}
PEERS: dict[str, Way] = {
    "PySceneDetect Adaptive": on_file("AdaptiveDetector"),
    "PySceneDetect Content": on_file("ContentDetector"),
    "adaptive on thumbnails": on_thumbs("adaptive"),
    "content on thumbnails": on_thumbs("content"),
}
DETECTORS = OURS | (PEERS if importlib.util.find_spec("scenedetect") else {})


def measure(films: list[tuple[str, Path, list[dict]]]) -> dict[str, dict[str, Any]]:
    """Name, file and truth of films -> a row for each detector; seconds are of this process's CPU."""
    rows: dict[str, dict[str, Any]] = {}
    seen = {name: shot_films.thumbs_of(file) for name, file, _ in films}
    frames = sum(len(thumbs) for thumbs in seen.values())
    for detector, run in DETECTORS.items():
        counts, began = {}, time.process_time()
        for name, file, truth in films:
            counts[name] = count(run(file, seen[name]), truth)
        spent_s = time.process_time() - began
        whole = sum(counts.values(), Count())
        rows[detector] = {
            "hard_f1": round(whole.hard_f1, 4),
            "gradual_f1": round(whole.gradual_f1, 4),
            "negatives_false": sum(counts[name].false for name, _, truth in films if not truth),
            "count": vars(whole),
            "cpu_us_per_frame": round(spent_s / max(1, frames) * 1e6, 1),
        }
    return rows


def decode_us(files: Iterable[Path]) -> float:
    """CPU microseconds a frame of decoding alone, one thread."""
    began, frames = time.process_time(), 0
    for file in files:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            frames += sum(1 for _ in container.decode(stream))
    return (time.process_time() - began) / max(1, frames) * 1e6


def exact(data: Path) -> list[tuple[str, Path, list[dict]]]:
    """The films of `cuts.json` whose cuts are exact."""
    entries = json.loads((data / "cuts.json").read_text())
    return [(entry["file"], data / entry["file"], entry["cuts"]) for entry in entries if entry["exact"]]


def negatives(data: Path) -> list[tuple[str, Path, list[dict]]]:
    """The films of `cuts.json` in which nothing is a transition."""
    entries = json.loads((data / "cuts.json").read_text())
    whole = [entry for entry in entries if entry["exact"] or entry["complete"]]
    return [(entry["file"], data / entry["file"], []) for entry in whole if not entry["cuts"]]


def main() -> None:
    """Print a table for each set of films."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--data", type=Path, required=True)
    asked.add_argument("--films", type=Path)
    asked.add_argument("--set", choices=["tune", "check"], default="check")
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--out", type=Path)
    options = asked.parse_args()
    sets = {"exact": exact(options.data)}
    sets["single shots"] = negatives(options.data)
    if options.films is not None:
        plans = shot_films.plans(options.set, options.rounds)
        made = [(plan.name, shot_films.make(plan, options.data / "videos", options.films)) for plan in plans]
        sets["films"] = [(n, file, json.loads(file.with_suffix(".json").read_text())["cuts"]) for n, file in made]
    report: dict[str, object] = {}
    for name, films in sets.items():
        rows = measure(films)
        report[name] = rows
        print(f"\n{name}: {len(films)} files; decoding costs {decode_us(file for _, file, _ in films):.0f} us a frame")
        for detector, row in rows.items():
            print(
                f"  {detector:24s} hard F1 {row['hard_f1']:.3f}  gradual F1 {row['gradual_f1']:.3f}  "
                f"false where nothing is {row['negatives_false']:3d}  {row['cpu_us_per_frame']:8.1f} us a frame"
            )
    if options.out:
        options.out.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
