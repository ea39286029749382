"""A trained generator to numbers that can be compared, and pictures to look at."""

import json
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from data_prep.lineage import learned_from
from data_prep.tables import Tables
from flows.comparison import measured_by
from flows.spec import Row, Spec, StageResult
from flows.stage import ProgressFile, write_value
from flows.stages.train import open_tracker
from vidgen_core.applications.generator import Generator
from vidgen_core.applications.records import SampleRecord, record
from vidgen_core.clip import decode_clips
from vidgen_core.errors import VidgenError
from vidgen_core.evaluation.evaluate import Evaluation, Shown, evaluate
from vidgen_core.evaluation.measurements import Measurement
from vidgen_core.evaluation.network_calls import network_calls
from vidgen_core.evaluation.set_metrics import Material
from vidgen_core.evaluation.text_match import LearnedMatch, Matches, check_width
from vidgen_core.evaluation.truth import Score
from vidgen_core.interfaces import TextEncoder, VideoEncoder
from vidgen_core.registry.encoders import open_video_encoder
from vidgen_core.registry.gate import Rival
from vidgen_core.registry.rivals import Met, meet

__all__ = ["run"]

_SHOWN = 24
_LEAST_HELD = 64

Clips = NDArray[np.uint8]


def run(spec: Spec, progress: ProgressFile) -> StageResult:
    """Measure against the held-out clips; where there are too few, against those learned from, and say so."""
    done = spec.result("train")
    # What it learned from; the tables may hold more by now, and the protocol of a distance says of what clips it is.
    trained, release = done.facts, done.fact("release")
    real = _real(spec)
    material = real.material
    progress(0, None)
    generator = Generator.load(Path(trained["model_dir"]))
    encoders = _encoders(spec)
    measured = partial(
        evaluate, material=material, settings=spec.recipe.evaluation, encoders=encoders,
        matchers=_matchers(encoders, generator.encoder),
    )  # fmt: skip
    result, shown = measured(generator, identity=(trained["model"], release), held_out=trained["held_out"])
    write_value(spec.run_dir / "evaluation.json", result)
    records = _records(generator, result.model, shown)
    samples_file = spec.run_dir / "samples.json"
    samples_file.write_text(json.dumps([one.model_dump(mode="json") for one in records], indent=1))
    met = meet(
        spec.home.mlflow_uri, spec.recipe.model, spec.home.cache_dir, ours=result, draw=shown.draws[-1].first(_SHOWN),
        settings=spec.recipe.gate,
        measure=lambda theirs, version: measured(theirs, identity=(version.model, release), held_out={}),
    )  # fmt: skip
    rival = _rival(spec, met, real)
    facts = _gallery(spec.run_dir / "shown.npz", material, shown, met.clips)
    tracker = open_tracker(spec)
    tracker.log(0, _figures(result))
    tracker.close()
    for file in (spec.run_dir / "evaluation.json", samples_file):
        tracker.artifact(file, "evaluation")
    first, seed = material.captions[:1], spec.recipe.evaluation.seed
    facts |= {
        "held_out": material.kept_apart,
        "champion": met.told,
        "rival": None if rival is None else rival.model_dump(mode="json"),
        "samples": str(samples_file),
        "network_calls": network_calls(generator.family, lambda: generator.videos(first, seed=seed)),
        "parameters": sum(weight.numel() for weight in generator.family.parameters()),
        "measured_by": measured_by(),
    }
    rows = [*real.rows, *_rows(result), *(Row(name="champion", note=note) for note in (rival.notes if rival else ()))]
    return StageResult(stage="evaluate", rows=tuple(rows), facts=facts)


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
            check_width(name, encoder, text.dim)
            found.append(LearnedMatch(name, cast(Matches, encoder), text))
    return found


class _Real(NamedTuple):
    """Real clips, the sources of those that made ones are compared with, and a row if others cannot be compared."""

    material: Material
    sources: set[str]
    rows: tuple[Row, ...] = ()


def _real(spec: Spec) -> _Real:
    """As many as the settings ask for."""
    settings, tables = spec.recipe.evaluation, spec.home.tables()
    rows = tables.read("clips", ["clip_id", "source_id", "split", "frames", "height", "width"]).to_pylist()
    data = spec.recipe.data
    shape = data.frames, data.height, data.width
    # The generator makes clips of this shape only, and a set metric compares clips of one.
    alike = [row for row in rows if (row["frames"], row["height"], row["width"]) == shape]
    name = "x".join(map(str, shape))
    if not alike:
        raise VidgenError(
            "No clip is of the main shape, in which videos are drawn and measured", got=f"{len(rows)} clips",
            allowed=name, move="Make the shape of most clips the main one: data.frames, data.height and data.width",
        )  # fmt: skip
    note = f"measured on clips of {name}; {len(rows) - len(alike)} clips of other shapes are not in it"
    clips = _sources_in_turn(alike)
    said = {row["clip_id"]: row["caption"] for row in tables.read("captions").to_pylist() if row["rank"] == 0}
    held = [row["clip_id"] for row in clips if row["split"] == "held_out"]
    others = [row["clip_id"] for row in clips if row["split"] != "held_out"]
    kept_apart = bool(held)
    held = (held or others)[: max(settings.samples, _LEAST_HELD)]
    real = _decoded(tables, held)
    learned = others[: settings.trained_clips] if kept_apart else []
    material = Material(
        held_out=real,
        captions=[said.get(clip_id) or "a video" for clip_id in held],
        trained=_decoded(tables, learned) if learned else real[:0],
        frame_rate=spec.recipe.data.frame_rate,
        kept_apart=kept_apart,
    )
    left = (Row(name="main shape", count=len(alike), note=note),) if len(rows) > len(alike) else ()
    chosen = set(held)
    return _Real(material, {row["source_id"] for row in clips if row["clip_id"] in chosen}, left)


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


def _rival(spec: Spec, met: Met, real: _Real) -> Rival | None:
    """Whom the gate compares with; where it was measured again, with a note if it learned from the reference."""
    if met.version is None or met.rival is None or met.rival.evaluation is None or not real.material.kept_apart:
        return met.rival
    seen, whole = learned_from(spec.home.tables(), spec.home.releases_dir, met.version.release, real.sources)
    if seen:
        note = (
            f"{met.told} learned from {len(seen)} of the {len(real.sources)} sources whose clips are the reference, so "
            f"its numbers may be better than they would be on clips that it never saw."
        )
    elif not whole:
        note = (
            f"Whether {met.told} learned from the clips of the reference cannot be told: not all of its data release "
            f"{met.version.release} is there any more."
        )
    else:
        return met.rival
    return met.rival.model_copy(update={"notes": (*met.rival.notes, note)})


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
    return {} if score is None else {name: share.value or 0.0 for name, share in score.shares().items()}
