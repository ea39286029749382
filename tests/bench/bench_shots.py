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

from data_prep.quick_shots import quick_shots
from data_prep.shot_detectors._contract import Thumbs
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
    def f1(self) -> float:
        """Of transitions of both sorts."""
        return _f1(self.hard + self.gradual, self.hard_missed + self.gradual_missed, self.false)

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


def on_thumbs(detector: str) -> Callable[[Thumbs], list[Transition]]:
    """One of ours, on the thumbnails of the pass."""

    def run(thumbs: Thumbs) -> list[Transition]:
        finder = ShotFinder(ShotSettings(detector=detector))
        finder.push(thumbs)
        return finder.finish().transitions

    return run


def on_file(name: str) -> Callable[[Path], list[Transition]]:
    """PySceneDetect as its users call it: it opens and decodes the file itself, at its own size."""

    def run(file: Path) -> list[Transition]:
        import scenedetect

        scenes = scenedetect.detect(str(file), getattr(scenedetect, name)(), start_in_scene=True)
        return [Transition(scene[0].frame_num, scene[0].frame_num) for scene in scenes[1:]]

    return run


_INSTALLED = importlib.util.find_spec("scenedetect") is not None
PEERS = {
    "pyscenedetect_adaptive": on_file("AdaptiveDetector"),
    "pyscenedetect_content": on_file("ContentDetector"),
} if _INSTALLED else {}  # fmt: skip
# From file to transitions: all that a detector costs.
WHOLE = {
    "quick": lambda file: quick_shots(file, ShotSettings()).transitions,
    "thumbnails": lambda file: on_thumbs("thumbnails")(shot_films.thumbs_of(file)),
    **PEERS,
}
_ON_THUMBS = ["adaptive", "content"] if _INSTALLED else []
DETECTORS = WHOLE | {
    f"{name}_on_thumbnails": lambda file, name=name: on_thumbs(name)(shot_films.thumbs_of(file)) for name in _ON_THUMBS
}


def measure(films: list[tuple[str, Path, list[dict]]]) -> dict[str, dict[str, Any]]:
    """Name, file and truth of films -> a row for each detector; CPU time is of this process, decoding included."""
    rows: dict[str, dict[str, Any]] = {}
    for detector, run in DETECTORS.items():
        began = time.process_time()
        counts = {name: count(run(file), truth) for name, file, truth in films}
        spent_s = time.process_time() - began
        whole = sum(counts.values(), Count())
        rows[detector] = {
            "hard_f1": round(whole.hard_f1, 4),
            "gradual_f1": round(whole.gradual_f1, 4),
            "f1": round(whole.f1, 4),
            "negatives_false": sum(counts[name].false for name, _, truth in films if not truth),
            "count": vars(whole),
            "cpu_s": round(spent_s, 2),
        }
    return rows


def found(data: Path) -> dict[str, dict[str, Any]]:
    """Rows of all detectors over the exact films; negatives are those and whole videos without a cut."""
    rows, lone = measure(exact(data)), measure(negatives(data))
    keep = ("hard_f1", "gradual_f1", "f1", "count")
    return {
        name: {**{part: row[part] for part in keep}, "negatives_false": lone[name]["negatives_false"]}
        for name, row in rows.items()
    }


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
        print(f"\n{name}: {len(films)} files")
        for detector, row in rows.items():
            print(
                f"  {detector:24s} hard F1 {row['hard_f1']:.3f}  gradual F1 {row['gradual_f1']:.3f}  "
                f"false where nothing is {row['negatives_false']:3d}  {row['cpu_s']:8.1f} s of CPU"
            )
    if options.out:
        options.out.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
