"""Videos to clips: analyze each source once, decide over all spans, cut what was kept.

Each source is a unit of work, keyed by its bytes, its captions and the settings; what is in the tables under that
key is never done again, and what is there under another key is replaced.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_prep import shots
from data_prep.analyze import analyze
from data_prep.captioning import GENERATED, by_source, caption_spans
from data_prep.captions import read_sidecar
from data_prep.clips import ENCODING_VERSION, cut
from data_prep.decode import Undecodable
from data_prep.duplicates import fingerprint
from data_prep.duplicates.groups import Copied
from data_prep.duplicates.resolve import fail_on_leaks, resolve
from data_prep.run import Runner
from data_prep.select import Reason, verdicts
from data_prep.settings import DataSettings
from data_prep.sources import Source, identify, list_files
from data_prep.tables import SCHEMAS, Part, Release, Tables
from data_prep.units import Progress, Unit, Workshop, dead_row, write
from vidgen_core import digests, discovery
from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen

__all__ = ["DATA_TABLES", "FunnelRow", "Prepared", "prepare"]

DATA_TABLES = ("sources", "spans", "clips", "captions", "rejects")
_ANALYSIS_VERSION = 2
_ANALYZED = ("dead", "spans", "fingerprints", "sources")
Span = dict[str, Any]
Dropped = tuple[Span, Reason]


class FunnelRow(Frozen):
    """A step of the funnel: so many of something, in so many seconds."""

    name: str
    rows: int
    seconds: float | None = None


class Prepared(Frozen):
    """What came out.

    Args:
        funnel: From files to clips.
        reasons: Why things were dropped: reason -> count.
        release: The data tables as they are now.

    """

    funnel: tuple[FunnelRow, ...]
    reasons: dict[str, int]
    release: Release


def prepare(
    videos: Path, tables: Tables, settings: DataSettings, runner: Runner, *, progress: Progress = lambda *_: None
) -> Prepared:
    """Bring the data tables up to date with a folder of videos.

    Raises:
        VidgenError: The folder has no videos, or no clip is left.

    """
    shop = Workshop(tables, runner, progress, settings.source_deadline_s)
    files = list_files(videos)
    found = identify(files, videos)
    unique = {source.source_id: source for source in reversed(found)}
    seconds = _Seconds()
    _analyze_all(list(unique.values())[::-1], shop, settings)
    seconds.lap("sources committed")
    kept, dropped = _decide(tables.read("spans"), settings)
    kept, copies, pairs, groups = resolve(kept, unique, shop, settings)
    dropped += copies
    seconds.lap("duplicate groups")
    if settings.captioner.weights:
        kept, silent = _caption(kept, unique, shop, settings)
        dropped += silent
        seconds.lap("captioned spans")
    _cut_all(kept, unique, shop, settings)
    kept, failed = _with_media(kept, tables)
    fail_on_leaks(tables, pairs)
    seconds.lap("clips")
    tables.replace("captions", pa.Table.from_pylist([_caption_row(span) for span in kept], SCHEMAS["captions"]))
    rejects = [*_lost(tables, found, unique), *map(_span_reject, dropped), *failed]
    tables.replace("rejects", pa.Table.from_pylist(rejects, SCHEMAS["rejects"]))
    if not kept:
        raise _nothing_left(tables, len(files), rejects)
    reasons = Counter(row["reason"] for row in rejects)
    return Prepared(
        funnel=_funnel(tables, len(files), rejects, seconds.laps, groups),
        reasons=dict(reasons.most_common()),
        release=tables.release(DATA_TABLES),
    )


class _Seconds:
    """How long each part took."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._last = round(now - self._last, 1), now


def _funnel(
    tables: Tables, files: int, rejects: Sequence[Mapping[str, Any]], laps: Mapping[str, float], groups: int
) -> tuple[FunnelRow, ...]:
    levels = Counter(row["level"] for row in rejects)
    counts = {"files": files, "sources committed": len(tables.read("sources", ["source_id"])),
              "sources rejected": levels["source"], "spans": len(tables.read("spans", ["clip_id"])),
              "duplicate groups": groups}  # fmt: skip
    if "captioned spans" in laps:
        counts["captioned spans"] = len(tables.read(GENERATED, ["clip_id"]))
    counts |= {"spans dropped": levels["span"], "clips": len(tables.read("captions", ["clip_id"]))}
    return tuple(FunnelRow(name=name, rows=rows, seconds=laps.get(name)) for name, rows in counts.items())


def _analyze_all(sources: Sequence[Source], shop: Workshop, settings: DataSettings) -> None:
    """Rows of `sources`, `spans` and `dead` for every source, and of no other."""
    versions = {name: discovery.load("data_prep.stages", name).VERSION for name in discovery.names("data_prep.stages")}
    relevant = settings.model_dump(mode="json", include={"frames", "height", "width", "frame_rate", "shots"})
    common = [relevant, versions, shots.VERSION, fingerprint.VERSION, _ANALYSIS_VERSION]
    units = []
    for source in sources:
        sidecar = read_sidecar(source.file)
        key = digests.of_value([common, source.source_id, source.uri, repr(sidecar)], 32)
        units.append(Unit(key, source))
    shop.run(units, partial(_analyze_unit, tables=shop.tables, settings=settings), _ANALYZED)


def _analyze_unit(unit: Unit, *, tables: Tables, settings: DataSettings) -> dict[str, Part]:
    """Write a source's files; a file that cannot be decoded gets its row among the dead."""
    try:
        analysis = analyze(unit.source, settings)
        rows = {"sources": [analysis.source], "spans": analysis.spans, "fingerprints": [analysis.fingerprint]}
    except Undecodable as error:
        rows = {"dead": [dead_row(unit.source, error.reason, error.message, 1)]}
    return {name: write(tables, name, unit.key, rows.get(name, [])) for name in _ANALYZED}


def _decide(spans: pa.Table, settings: DataSettings) -> tuple[list[Span], list[Dropped]]:
    """Kept and dropped spans. Where a captioner will speak, a span may still be silent."""
    changed = {"need_caption": settings.select.need_caption and not settings.captioner.weights}
    judged = verdicts(spans, settings.select.model_copy(update=changed), frames=settings.frames)
    judged.sort(key=lambda pair: pair[0]["clip_id"])
    return [span for span, reason in judged if reason is None], [(span, why) for span, why in judged if why is not None]


def _caption(
    spans: Sequence[Span], sources: Mapping[str, Source], shop: Workshop, settings: DataSettings
) -> tuple[list[Span], list[Dropped]]:
    """The spans, with a generated caption where they had none; still silent ones are dropped if a caption is needed."""
    generated = caption_spans([span for span in spans if not span["caption"]], sources, shop, settings.captioner)
    captioned = [span | generated.get(span["clip_id"], {}) for span in spans]
    silent = Reason(rule="need_caption", value=0.0, threshold=1.0)
    dropped = [(span, silent) for span in captioned if not span["caption"] and settings.select.need_caption]
    lost = {span["clip_id"] for span, _ in dropped}
    return [span for span in captioned if span["clip_id"] not in lost], dropped


def _cut_all(spans: Sequence[Span], sources: Mapping[str, Source], shop: Workshop, settings: DataSettings) -> None:
    """Rows of `clips` for every kept span, and of no other."""
    units = []
    for source_id, some in by_source(spans).items():
        key = digests.of_value([[(s["clip_id"], s["split"], *_crop(s)) for s in some], ENCODING_VERSION], 32)
        units.append(Unit(key, sources[source_id], tuple(some)))
    shop.run(units, partial(_cut_unit, tables=shop.tables, settings=settings), ("clips",))


def _with_media(spans: Sequence[Span], tables: Tables) -> tuple[list[Span], list[dict[str, Any]]]:
    """The spans that became clips, and a reject for each of the others: cutting their source crashed or hung."""
    there = set(tables.read("clips", ["clip_id"])["clip_id"].to_pylist())
    message = "The process that cut its source died or took too long"
    failed = [
        _reject(span, stage="cut", reason="cut_failed", message=message)
        for span in spans
        if span["clip_id"] not in there
    ]
    return [span for span in spans if span["clip_id"] in there], failed


def _caption_row(span: Span) -> dict[str, Any]:
    named = {name: span[name] for name in ("clip_id", "source_id", "caption", "split")}
    return {**named, "origin": span["caption_origin"]}


def _cut_unit(unit: Unit, *, tables: Tables, settings: DataSettings) -> dict[str, Part]:
    return {"clips": write(tables, "clips", unit.key, cut(unit.source.file, unit.spans, settings))}


def _crop(span: dict[str, Any]) -> tuple[int, ...]:
    return tuple(span[f"crop_{part}"] for part in "xywh")


def _span_reject(judged: Dropped) -> dict[str, Any]:
    span, why = judged
    row = _reject(
        span, stage="duplicates" if isinstance(why, Copied) else "select", reason=why.rule, message=why.sentence()
    )
    return row | {"value": why.value, "threshold": why.threshold}


def _reject(span: Span, *, stage: str, reason: str, message: str) -> dict[str, Any]:
    named = {name: span[name] for name in ("source_id", "clip_id", "uri")}
    return {**named, "level": "span", "stage": stage, "reason": reason, "value": None, "threshold": None,
            "message": message, "attempts": 1}  # fmt: skip


def _lost(tables: Tables, found: Sequence[Source], unique: Mapping[str, Source]) -> list[dict[str, Any]]:
    """Every file that is no source: the dead, and copies of a file that is one already."""
    first = {source_id: source.uri for source_id, source in unique.items()}
    copies = [
        dead_row(source, "duplicate", f"The same bytes as {first[source.source_id]}", 1)
        for source in found
        if source.uri != first[source.source_id]
    ]
    return [*tables.read("dead").to_pylist(), *copies] if tables.exists("dead") else copies


def _nothing_left(tables: Tables, files: int, rejects: Sequence[Mapping[str, Any]]) -> VidgenError:
    spans = len(tables.read("spans", ["clip_id"]))
    if not spans:
        lost = sum(row["level"] == "source" for row in rejects)
        what = f"None of the {files} files gives a clip: {lost} cannot be used, and the others are shorter than a clip"
        return VidgenError(what, move="Name a folder with longer videos, or ask for shorter clips: --set data.frames=5")
    rule, count = Counter(
        row["reason"] for row in rejects if row["level"] == "span" and row["stage"] != "duplicates"
    ).most_common(1)[0]
    return VidgenError(
        f"All {spans} candidate clips were dropped, {count} of them by the rule {rule}",
        move="Put captions beside the videos (NAME.txt or NAME.vtt), or give --set data.select.need_caption=false"
        if rule == "need_caption"
        else f"Loosen it with --set data.select.{rule}=...",
    )
