"""What became of a clip or a source: each score against its threshold, what dropped it, where its media is."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_prep.audio import AUDIO
from data_prep.lineage import Named
from data_prep.placing import shape_of
from data_prep.prepare import candidates
from data_prep.rights import RIGHTS
from data_prep.select import RULES, Reason, Select, decide
from data_prep.settings import DataSettings
from data_prep.tables import SCHEMAS, Tables
from data_prep.units import made_of
from vidgen_core.frozen import Frozen

__all__ = ["Check", "ClipStory", "SourceStory", "explain_clip", "explain_source"]


class Check(Frozen):
    """One rule and what it says of one span.

    Args:
        rule: The field of `Select`.
        score: The score that it looks at.
        value: None where it is missing.
        threshold: None where the rule is off.
        passed: None where the rule is off.

    """

    rule: str
    score: str
    value: float | None
    threshold: float | None
    passed: bool | None


class ClipStory(Frozen):
    """A candidate clip.

    Args:
        clip_id: Its id.
        source: Its source's row, with its rights.
        span: Where it is: shot, start and stop in seconds and ticks, crop; and the shape it is cut in.
        checks: Every rule.
        dropped_by: The first rule that it fails; None when it passes all.
        reject: Its row of `rejects`, which is what the last run made of it.
        captions: Texts with their origins.
        split: "train" or "held_out"; "" for a clip that is not kept.
        versions: Versions of the stages that scored it.
        media: The Parquet file with its media, its digest, and what is kept of its sound; empty where it is no clip.

    """

    clip_id: str
    source: dict[str, Any]
    span: dict[str, Any]
    checks: tuple[Check, ...]
    dropped_by: Reason | None
    reject: dict[str, Any]
    captions: tuple[tuple[str, str], ...]
    split: str
    versions: dict[str, int | str]
    media: dict[str, str]


class SourceStory(Frozen):
    """A source.

    Args:
        source_id: Its id.
        source: Its row, with its rights; empty when it is none.
        rejects: Its rows of `rejects` but for dropped clips, and of `forgotten`.
        clips: Each candidate clip: id, seconds, and what became of it.
        counts: What became of them -> how many.
        versions: Versions of the stages that scored it.

    """

    source_id: str
    source: dict[str, Any]
    rejects: tuple[dict[str, Any], ...]
    clips: tuple[dict[str, Any], ...]
    counts: dict[str, int]
    versions: dict[str, int | str]


def explain_clip(tables: Tables, clip_id: str, settings: DataSettings) -> ClipStory:
    """The story of a clip under some settings; it is in `spans`."""
    rejects = [row for row in _rows(tables, "rejects", "clip_id", clip_id) if row["level"] == "span"]
    # What was never captioned could not be matched: it waits, and no rule has dropped it.
    silent = bool(rejects) and rejects[0]["stage"] == "caption"
    spans, select = candidates(tables, settings, wait=silent)
    span = spans.filter(pc.equal(spans["clip_id"], clip_id)).to_pylist()[0]
    said = [(row["caption"], row["origin"]) for name in ("captions", "generated_captions")
            for row in _rows(tables, name, "clip_id", clip_id)]  # fmt: skip
    beside = [(span["caption"], span["caption_origin"])] if span["caption"] else []
    source = _source(tables, span["source_id"])
    made = shape_of(span, settings.each_shape())
    where = ("shot", "start_s", "stop_s", "start_pts", "stop_pts", "time_base", "crop_x", "crop_y", "crop_w", "crop_h")
    return ClipStory(
        clip_id=clip_id,
        source=source or {"source_id": span["source_id"], "uri": span["uri"]},
        span={name: span[name] for name in where} | {"shape": f"{made.frames}x{made.height}x{made.width}"},
        checks=tuple(_checks(span, select)),
        dropped_by=decide(span, select),
        reject=rejects[0] if rejects else {},
        captions=tuple(dict.fromkeys([*beside, *said])),
        split=next((row["split"] for row in _rows(tables, "captions", "clip_id", clip_id)), ""),
        versions=_versions(tables, span["source_id"]),
        media=_media(tables, clip_id),
    )


def explain_source(tables: Tables, source_id: str) -> SourceStory:
    """The story of a source as the last run left it."""
    named = Named("source_id", source_id)
    rejects = _rows(tables, "rejects", *named)
    reasons = {row["clip_id"]: row["message"] for row in rejects if row["level"] == "span"}
    dropped = {row["clip_id"]: row["reason"] for row in rejects if row["level"] == "span"}
    kept = {row["clip_id"] for row in _rows(tables, "captions", *named)}
    spans = sorted(_rows(tables, "spans", *named), key=lambda span: span["start_pts"])
    fates = {
        span["clip_id"]: "kept" if span["clip_id"] in kept else reasons.get(span["clip_id"], "not decided yet")
        for span in spans
    }
    lost = [row for row in rejects if row["level"] != "span"] or _rows(tables, "dead", *named)
    clips = [{"clip_id": s["clip_id"], "start_s": s["start_s"], "stop_s": s["stop_s"], "fate": fates[s["clip_id"]]}
             for s in spans]  # fmt: skip
    return SourceStory(
        source_id=source_id,
        source=_source(tables, source_id),
        rejects=(*lost, *_rows(tables, "forgotten", *named)),
        clips=tuple(clips),
        counts=dict(Counter(dropped.get(key, fate) for key, fate in fates.items())),
        versions=_versions(tables, source_id),
    )


def _checks(span: dict[str, Any], select: Select) -> list[Check]:
    """Each rule on its own, as `decide` asks it."""
    checks = []
    alone = {rule.name: None for rule in RULES} | {"need_caption": False, "licenses": ()}
    asks = bool(select.licenses)
    passed = decide(span, select.model_copy(update={**alone, "licenses": select.licenses})) is None if asks else None
    found = None if span.get("license") is None else float(bool(passed))
    checks.append(Check(rule="licenses", score="license", value=found, threshold=1.0 if asks else None, passed=passed))
    for rule in RULES:
        threshold = getattr(select, rule.name)
        only = select.model_copy(update={**alone, rule.name: threshold})
        passed = None if threshold is None else decide(span, only) is None
        value = span.get(rule.score)
        checks.append(Check(rule=rule.name, score=rule.score, value=value, threshold=threshold, passed=passed))
    caption = float(bool(span["caption"]))
    passed = bool(span["caption"]) if select.need_caption else None
    threshold = 1.0 if select.need_caption else None
    return [*checks, Check(rule="need_caption", score="caption", value=caption, threshold=threshold, passed=passed)]


def _source(tables: Tables, source_id: str) -> dict[str, Any]:
    """A source's row with what is said of the right to use it, null where nothing is; {} where there is no such row."""
    rows = _rows(tables, "sources", "source_id", source_id)
    unsaid = dict.fromkeys(name for name in SCHEMAS[RIGHTS].names if name != "source_id")
    return {**rows[0], **unsaid, **next(iter(_rows(tables, RIGHTS, "source_id", source_id)), {})} if rows else {}


def _rows(tables: Tables, name: str, column: str, value: str) -> list[dict[str, Any]]:
    """Rows of a table with a value, without media; none where there is no such table."""
    if not tables.exists(name):
        return []
    files = tables.holding(name, column, value)
    parts = [tables.part(name, file.stem.removeprefix("part-")) for file in files]
    rows: list[dict[str, Any]] = []
    for part in parts:
        plain = [field.name for field in part.schema if not pa.types.is_binary(field.type)]
        rows += part.filter(pc.equal(part[column], value)).select(plain).to_pylist()
    return rows


def _versions(tables: Tables, source_id: str) -> dict[str, int | str]:
    """Versions of the stages that a source went through, as its file says."""
    files: list[Path] = tables.holding("sources", "source_id", source_id)
    return made_of(tables, files[0]).get("versions", {}) if files else {}


def _media(tables: Tables, clip_id: str) -> dict[str, str]:
    files = tables.holding("clips", "clip_id", clip_id)
    if not files:
        return {}
    rows = _rows(tables, "clips", "clip_id", clip_id)
    media = {"file": files[0].relative_to(tables.root).as_posix(), "sha256": rows[0]["media_sha256"]}
    for row in _rows(tables, AUDIO, "clip_id", clip_id):
        told = f"{row['channels']} x {row['samples']} samples at {row['sample_rate']} Hz"
        media["sound"] = told if row["audio_sha256"] else "the source has none"
    return media
