"""A trained generator to numbers that can be compared, and pictures to look at."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from data_prep.tables import Tables
from flows.comparison import measured_by
from flows.spec import Row, Spec, StageResult
from flows.stage import ProgressFile, write_value
from flows.stages.train import open_tracker
from vidgen_core.applications.generator import Generator, digest
from vidgen_core.applications.records import SampleRecord, record
from vidgen_core.clip import decode_clips
from vidgen_core.errors import VidgenError
from vidgen_core.evaluation.evaluate import Draw, Evaluation, Shown, evaluate
from vidgen_core.evaluation.measurements import Measurement
from vidgen_core.evaluation.network_calls import network_calls
from vidgen_core.evaluation.set_metrics import Material
from vidgen_core.evaluation.text_match import LearnedMatch, Matches
from vidgen_core.evaluation.truth import Score
from vidgen_core.interfaces import TextEncoder, VideoEncoder
from vidgen_core.registry.encoders import open_video_encoder
from vidgen_core.registry.models import fetch

__all__ = ["run"]

_SHOWN = 24
_LEAST_HELD = 64

Clips = NDArray[np.uint8]


def run(spec: Spec, progress: ProgressFile) -> StageResult:
    """Measure against the held-out clips; where there are too few, against those learned from, and say so."""
    trained, release = spec.result("train").facts, spec.result("latents").facts["release"]
    material = _material(spec)
    progress(0, None)
    generator = Generator.load(Path(trained["model_dir"]))
    encoders = _encoders(spec)
    result, shown = evaluate(
        generator, material, spec.recipe.evaluation,
        identity=(trained["model"], release), held_out=trained["held_out"],
        encoders=encoders, matchers=_matchers(encoders, generator.encoder),
    )  # fmt: skip
    write_value(spec.run_dir / "evaluation.json", result)
    records = _records(generator, result.model, shown)
    samples_file = spec.run_dir / "samples.json"
    samples_file.write_text(json.dumps([one.model_dump(mode="json") for one in records], indent=1))
    champion, champion_is = _champion(spec, shown.draws[-1], result.model)
    facts = _gallery(spec.run_dir / "shown.npz", material, shown, champion)
    tracker = open_tracker(spec)
    tracker.log(0, _figures(result))
    tracker.close()
    for file in (spec.run_dir / "evaluation.json", samples_file):
        tracker.artifact(file, "evaluation")
    first, seed = material.captions[:1], spec.recipe.evaluation.seed
    facts |= {
        "held_out": material.kept_apart,
        "champion": champion_is,
        "samples": str(samples_file),
        "network_calls": network_calls(generator.family, lambda: generator.videos(first, seed=seed)),
        "parameters": sum(weight.numel() for weight in generator.family.parameters()),
        "measured_by": measured_by(),
    }
    return StageResult(stage="evaluate", rows=tuple(_rows(result)), facts=facts)


def _encoders(spec: Spec) -> dict[str, VideoEncoder]:
    """Trained encoders that the recipe names, under names that metrics can bear."""
    opened = {}
    for named in spec.recipe.evaluation.encoders:
        name = Path(named).name if Path(named).is_dir() else named.replace("@", "-").replace("/", "-")
        opened[name] = open_video_encoder(named, uri=spec.home.mlflow_uri, cache_dir=spec.home.cache_dir)
    return opened


def _matchers(encoders: Mapping[str, VideoEncoder], text: TextEncoder) -> list[LearnedMatch]:
    """Of those that know captions."""
    found = []
    for name, encoder in encoders.items():
        if encoder.reads_text:
            wanted = getattr(encoder.config, "text_dim", text.dim)
            if wanted != text.dim:
                raise VidgenError(
                    f"The encoder {name!r} learned captions through another text encoder",
                    got=f"captions of width {text.dim}",
                    allowed=f"captions of width {wanted}",
                    move="Leave it out of evaluation.encoders, or train it with this recipe's text encoder",
                )
            found.append(LearnedMatch(name, cast(Matches, encoder), text))
    return found


def _material(spec: Spec) -> Material:
    """Real clips, as many as the settings ask for."""
    settings, tables = spec.recipe.evaluation, spec.home.tables()
    rows = tables.read("clips", ["clip_id", "source_id", "split", "frames", "height", "width"]).to_pylist()
    data = spec.recipe.data
    # The generator makes clips of this shape only, and a set metric compares clips of one.
    alike = [
        row for row in rows if (row["frames"], row["height"], row["width"]) == (data.frames, data.height, data.width)
    ]
    clips = _sources_in_turn(alike or rows)
    said = {row["clip_id"]: row["caption"] for row in tables.read("captions").to_pylist() if row["rank"] == 0}
    held = [row["clip_id"] for row in clips if row["split"] == "held_out"]
    others = [row["clip_id"] for row in clips if row["split"] != "held_out"]
    kept_apart = bool(held)
    held = (held or others)[: max(settings.samples, _LEAST_HELD)]
    real = _decoded(tables, held)
    learned = others[: settings.trained_clips] if kept_apart else []
    return Material(
        held_out=real,
        captions=[said.get(clip_id) or "a video" for clip_id in held],
        trained=_decoded(tables, learned) if learned else real[:0],
        frame_rate=spec.recipe.data.frame_rate,
        kept_apart=kept_apart,
    )


def _decoded(tables: Tables, clip_ids: list[str]) -> Clips:
    chosen = ", ".join(f"'{clip_id}'" for clip_id in clip_ids)
    media = tables.query(f"select clip_id, media from clips where clip_id in ({chosen})")  # noqa: S608 - ids of ours
    stored = dict(zip(media["clip_id"].to_pylist(), media["media"].to_pylist(), strict=True))
    return decode_clips([stored[clip_id] for clip_id in clip_ids])


def _sources_in_turn(clips: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first clip of each source, then the second of each: a few at the front show as much as a few can."""
    before: Counter[str] = Counter()
    order = []
    for row in sorted(clips, key=lambda row: row["clip_id"]):
        order.append((before[row["source_id"]], row["clip_id"], row))
        before[row["source_id"]] += 1
    return [row for _, _, row in sorted(order, key=lambda placed: placed[:2])]


def _records(generator: Generator, model: str, shown: Shown) -> list[SampleRecord]:
    """Of every clip that was drawn; those of the draw that is shown come last, in its order."""
    return [
        one
        for draw in shown.draws
        for one in record(
            generator, model, purpose=draw.purpose, clips=draw.clips, prompts=draw.prompts, seed=draw.seed
        )
    ]


def _champion(spec: Spec, draw: Draw, model: str) -> tuple[Clips | None, str]:
    """What the champion draws of the same prompts and seeds, and which it is; or why it draws nothing."""
    try:
        folder = fetch(spec.home.mlflow_uri, f"{spec.recipe.model}@champion", spec.home.cache_dir)
    except VidgenError:
        return None, "There is no champion yet."
    if digest(folder) == model:
        return None, "This model is the champion."
    try:
        clips = Generator.load(folder).videos(draw.prompts[:_SHOWN], seed=draw.seed)
    except VidgenError as mistake:
        return None, f"The champion cannot be opened: {mistake}"
    name, _, version = folder.name.rpartition("-")[0].rpartition("-")
    return clips, f"{name} version {version}"


def _gallery(file: Path, material: Material, shown: Shown, champion: Clips | None) -> dict[str, Any]:
    """Keep the first clips of the draw, those that fail the exact checks before the others; facts about them."""
    draw = shown.draws[-1]
    count = min(_SHOWN, len(draw.clips))
    order = sorted(range(count), key=lambda place: -len(shown.mistakes[place]))
    pictures = {"made": draw.clips[order], "real": material.held_out[:_SHOWN]}
    facts: dict[str, Any] = {
        "prompts": [draw.prompts[place] for place in order],
        "mistakes": [shown.mistakes[place] for place in order],
        "numbers": order,
        "purpose": draw.purpose,
        "captions": material.captions[:_SHOWN],
    }
    if champion is not None:
        pictures["champion"] = champion[order]
    if shown.nearest is not None and shown.nearness is not None:
        pictures["nearest"] = material.trained[shown.nearest[order]]
        facts["nearness"] = [float(shown.nearness[place]) for place in order]
    np.savez_compressed(file, **pictures)  # type: ignore[arg-type] # stubs take names for a flag
    return facts


def _figures(result: Evaluation) -> dict[str, float]:
    """For the tracker: values, and what real clips reach in their place."""
    figures: dict[str, float] = {}
    for one in (*result.distances, *result.measures):
        figures |= {f"eval/{one.key}": one.value, f"eval_floor/{one.key}": one.floor}
    figures |= {f"eval/truth/{name}": value for name, value in _shares(result.truth).items()}
    return figures | {"eval/seconds_per_clip": result.seconds_per_clip}


def _rows(result: Evaluation) -> list[Row]:
    rows = [Row(name=one.key, note=_told(one)) for one in (*result.distances, *result.measures)]
    real_shares = _shares(result.truth_real)
    for name, share in _shares(result.truth).items():
        rows.append(Row(name=f"{name} right", note=f"{share:.1%} (checker on real clips {real_shares[name]:.1%})"))
    return rows


def _told(one: Measurement) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}], real {one.floor:.3f}"


def _shares(score: Score | None) -> dict[str, float]:
    if score is None:
        return {}
    names = ("one_shape", "color", "shape", "direction", "straight")
    return {name: getattr(score, name).value or 0.0 for name in names}
