"""A trained generator to numbers that can be compared, and pictures to look at."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from flows.comparison import measured_by
from flows.spec import Row, Spec, StageResult
from flows.stage import ProgressFile, write_value
from flows.stages.train import open_tracker
from vidgen_core.applications.generator import Generator
from vidgen_core.clip import decode_clips
from vidgen_core.evaluation.evaluate import evaluate
from vidgen_core.evaluation.network_calls import network_calls
from vidgen_core.evaluation.truth import Score

__all__ = ["run"]


def run(spec: Spec, progress: ProgressFile) -> StageResult:
    """Measure against the held-out clips; where there are too few, against those learned from, and say so."""
    trained, release = spec.result("train").facts, spec.result("latents").facts["release"]
    tables = spec.home.tables()
    clips = _sources_in_turn(tables.read("clips", ["clip_id", "source_id", "split"]).to_pylist())
    said = {row["clip_id"]: row["caption"] for row in tables.read("captions").to_pylist() if row["rank"] == 0}
    held = [row for row in clips if row["split"] == "held_out"]
    kept_apart = bool(held)
    held = (held or clips)[: max(spec.recipe.evaluation.samples, 64)]
    chosen = ", ".join(f"'{row['clip_id']}'" for row in held)
    media = tables.query(f"select clip_id, media from clips where clip_id in ({chosen})")  # noqa: S608 - ids of ours
    stored = dict(zip(media["clip_id"].to_pylist(), media["media"].to_pylist(), strict=True))
    real = decode_clips([stored[row["clip_id"]] for row in held])
    captions = [said.get(row["clip_id"]) or "a video" for row in held]
    progress(0, None)
    generator = Generator.load(Path(trained["model_dir"]))
    result, made, prompts = evaluate(
        generator, real, captions, spec.recipe.evaluation,
        identity=(trained["model"], release), held_out=trained["held_out"],
    )  # fmt: skip
    write_value(spec.run_dir / "evaluation.json", result)
    np.savez_compressed(spec.run_dir / "shown.npz", made=made[:24], real=real[:24])
    tracker = open_tracker(spec)
    tracker.log(0, {f"eval/{one.name.partition('@')[0]}": one.value for one in result.distances})
    tracker.log(0, {f"eval/truth/{name}": value for name, value in _shares(result.truth).items()})
    tracker.close()
    tracker.artifact(spec.run_dir / "evaluation.json", "evaluation")
    rows = [Row(name=one.name, note=f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}], floor {one.floor:.3f}")
            for one in result.distances]  # fmt: skip
    real_shares = _shares(result.truth_real)
    for name, share in _shares(result.truth).items():
        rows.append(Row(name=f"{name} right", note=f"{share:.1%} (checker on real clips {real_shares[name]:.1%})"))
    calls = network_calls(generator.family, lambda: generator.videos(prompts[:1], seed=spec.recipe.evaluation.seed))
    facts = {
        "prompts": prompts[:24], "captions": captions[:24], "held_out": kept_apart, "network_calls": calls,
        "parameters": sum(weight.numel() for weight in generator.family.parameters()), "measured_by": measured_by(),
    }  # fmt: skip
    return StageResult(stage="evaluate", rows=tuple(rows), facts=facts)


def _sources_in_turn(clips: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first clip of each source, then the second of each: a few at the front show as much as a few can."""
    before: Counter[str] = Counter()
    order = []
    for row in sorted(clips, key=lambda row: row["clip_id"]):
        order.append((before[row["source_id"]], row["clip_id"], row))
        before[row["source_id"]] += 1
    return [row for _, _, row in sorted(order, key=lambda placed: placed[:2])]


def _shares(score: Score | None) -> dict[str, float]:
    if score is None:
        return {}
    names = ("one_shape", "color", "shape", "direction", "straight")
    return {name: getattr(score, name).value or 0.0 for name in names}
