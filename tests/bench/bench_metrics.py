"""Which metric sees which harm, on real clips: `python -m tests.bench.bench_metrics FOLDER` prints the table of
docs/metrics.md.

FOLDER holds `captions.jsonl` and `videos/`. Of each video's spans the even ones are the real clips and the odd ones
stand for generated ones. A metric is asked of the same clips unharmed and harmed, in random halves of all: "worse" is a
harm that it finds in 90 % of the halves, "better" one that fools it as often, "-" one that it does not tell from
chance, and "silent" that nothing is left that it would judge.
"""  # noqa: D205

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from vidgen_core import discovery
from vidgen_core.evaluation.clip_measures import consistency, spectra
from vidgen_core.evaluation.distances import wasserstein
from vidgen_core.evaluation.extractors.random_conv import RandomConv, RandomMotion
from vidgen_core.evaluation.motion_view import MotionView
from vidgen_core.evaluation.set_metrics import Material, Seen, look, metrics_of

__all__ = ["HARMS", "clips_of", "table"]

FRAMES, SIDE_PX, RATE = 16, 64, 24
SPANS = 6  # of a video at most
LONG = 2 * FRAMES  # so that a span can be sped up

DRAWS, SURE = 40, 0.9
SPACES = (RandomConv(), RandomMotion())
WAYS = {
    name: discovery.load("vidgen_core.evaluation.measures", name).BETTER
    for name in discovery.names("vidgen_core.evaluation.measures")
}

Clips = NDArray[np.uint8]
Features = NDArray[np.float64]
Places = NDArray[np.int64]


def clips_of(folder: Path) -> tuple[Clips, Clips]:
    """Real clips and those to be judged, uint8 [N, 32, 64, 64, 3] each, from other spans of the same videos."""
    real, judged = [], []
    for line in (folder / "captions.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["kind"] == "original" and not row.get("broken") and "synthetic" not in row["tags"]:
            for place, span in enumerate(_spans(folder / row["file"])):
                (judged if place % 2 else real).append(span)
    return np.stack(real), np.stack(judged)


def _spans(file: Path) -> Iterator[Clips]:
    frames = []
    try:
        with av.open(str(file)) as opened:
            rate = float(opened.streams.video[0].average_rate or RATE)
            for place, frame in enumerate(opened.decode(video=0)):
                if place % max(1, round(rate / RATE)) == 0:
                    frames.append(frame.reformat(SIDE_PX, SIDE_PX, "rgb24", interpolation="AREA").to_ndarray())
                if len(frames) == SPANS * LONG:
                    break
    except (av.FFmpegError, IndexError):
        return  # damaged on purpose, or without a picture
    for start in range(0, len(frames) - LONG + 1, LONG):
        yield np.stack(frames[start : start + LONG])


def _shuffled(clips: Clips) -> Clips:
    rng = np.random.default_rng(0)
    return np.stack([clip[rng.permutation(FRAMES)] for clip in clips])


def _noisy(clips: Clips) -> Clips:
    noise = np.random.default_rng(0).normal(0, 15, clips.shape)
    return (clips + noise).clip(0, 255).astype(np.uint8)


def _flickering(clips: Clips) -> Clips:
    steps = np.random.default_rng(0).normal(0, 8, (len(clips), FRAMES, 1, 1, 1))
    return (clips + steps).clip(0, 255).astype(np.uint8)


# Each takes spans [N, 32, ...] and gives clips [N, 16, ...].
HARMS: dict[str, Callable[[Clips], Clips]] = {
    "blur": lambda spans: ndimage.gaussian_filter(spans[:, :FRAMES], (0, 0, 1.5, 1.5, 0)),
    "noise": lambda spans: _noisy(spans[:, :FRAMES]),
    "flicker": lambda spans: _flickering(spans[:, :FRAMES]),
    "shuffle": lambda spans: _shuffled(spans[:, :FRAMES]),
    "freeze": lambda spans: np.repeat(spans[:, :1], FRAMES, axis=1),
    "speed-up": lambda spans: spans[:, ::2],
    "collapse": lambda spans: np.repeat(spans[:1, :FRAMES], len(spans), axis=0),
}


@dataclass(frozen=True)
class Looked:
    """Features of a set of clips in each space, the values of its single clips by measure, and its spectra."""

    seen: tuple[Seen, ...]
    values: dict[str, Features]
    spectra: Features


def table(folder: Path) -> dict[str, dict[str, str]]:
    """Metric -> harm -> "worse", "-", "better" or "silent"; the last harm is copying of training clips."""
    real, judged = clips_of(folder)
    trained = real[len(real) // 2 :, :FRAMES]
    material = Material(real[: len(real) // 2, :FRAMES], [], trained, str(RATE))
    by_itself = _looked(material, material.held_out)
    clean = _looked(material, judged[:, :FRAMES])
    made = {name: harm(judged) for name, harm in HARMS.items()}
    made["copies"] = trained[np.arange(len(judged)) % len(trained)]
    rows: dict[str, dict[str, str]] = {}
    for harm, clips in made.items():
        for name, drawn in _paired(by_itself, clean, _looked(material, clips)).items():
            rows.setdefault(name, {})[harm] = _verdict(drawn)
    return rows


def _looked(material: Material, clips: Clips) -> Looked:
    views = [MotionView(clip, Fraction(RATE)) for clip in clips]
    names = discovery.names("vidgen_core.evaluation.measures")
    files = {name: discovery.load("vidgen_core.evaluation.measures", name) for name in names}
    values = {name: [file.of_clip(view) for view in views] for name, file in files.items()}
    arrays = {name: np.array([np.nan if one is None else one for one in some]) for name, some in values.items()}
    alike = {"frame_consistency": consistency(SPACES[0], clips)}
    return Looked(tuple(look(space, material, clips) for space in SPACES), {**alike, **arrays}, spectra(views))


def _paired(real: Looked, clean: Looked, harmed: Looked) -> dict[str, list[float]]:
    """How much worse the harmed clips are than the same clips unharmed, in random halves of all."""
    rng, found = np.random.default_rng(0), {}
    held, made = len(real.spectra), len(clean.spectra)
    for _ in range(DRAWS):
        theirs, ours = rng.permutation(held)[: held // 2], rng.permutation(made)[: made // 2]
        before, after = (_losses(real, some, theirs, ours) for some in (clean, harmed))
        for name, loss in before.items():
            found.setdefault(name, []).append(after[name] - loss)
    return found


def _losses(real: Looked, made: Looked, theirs: Places, ours: Places) -> dict[str, float]:
    """How far each metric of some clips is from the best that it can be."""
    losses, n = {}, min(len(theirs), len(ours))
    for space, seen in zip(SPACES, made.seen, strict=True):
        half = Seen(seen.held_out[theirs], seen.trained, seen.made[ours])
        for one in metrics_of(space, half, n):
            value = one.metric(half.held_out[:n], half.made[:n])
            name = f"{space.kinds.get(one.kind, one.kind)}@{space.protocol.encoder}"
            losses[name] = {"lower": value, "higher": -value, "real": abs(1 - value)}[one.better]
    for name, values in made.values.items():
        mean, usual = _mean(values[ours]), _mean(real.values[name][theirs])
        better = WAYS.get(name, "real")
        losses[name] = {"lower": mean, "higher": -mean, "real": abs(mean - usual)}[better]
    energies = [np.sqrt(some.values["motion_energy"])[:, None] for some in (real, made)]
    losses["motion_energy_distance"] = wasserstein(energies[0][theirs][:n], energies[1][ours][:n])
    losses["temporal_spectrum_distance"] = wasserstein(real.spectra[theirs][:n], made.spectra[ours][:n])
    return losses


def _mean(values: Features) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def _verdict(drawn: list[float]) -> str:
    if np.isnan(drawn).any():
        return "silent"
    worse = float(np.mean(np.array(drawn) > 0))
    return "worse" if worse >= SURE else "better" if worse <= 1 - SURE and np.any(drawn) else "-"


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    rows = table(Path(sys.argv[1]))
    harms = [*HARMS, "copies"]
    lines = [f"| metric | {' | '.join(harms)} |", "|---" * (len(harms) + 1) + "|"]
    lines += [f"| `{name}` | {' | '.join(found[harm] for harm in harms)} |" for name, found in rows.items()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
