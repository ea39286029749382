"""Videos to clips: analyze each source once, decide over all spans, cut what was kept.

Each source is a unit of work, keyed by its bytes, its captions and the settings; what is in the tables under that
key is never done again, and what is there under another key is replaced.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from data_prep import losses, shots
from data_prep.analyze import analyze
from data_prep.captioning import GENERATED, caption_spans
from data_prep.captions import read_sidecar
from data_prep.cutting import cut_all, with_media_keys
from data_prep.decode import Undecodable
from data_prep.run import Runner
from data_prep.select import SOURCE_COLUMNS, Select, judge, measured, resolve
from data_prep.settings import DataSettings
from data_prep.sources import Source, identify, list_files
from data_prep.tables import SCHEMAS, Part, Release, Tables
from data_prep.units import Progress, Unit, Workshop, dead_row, write
from vidgen_core import digests, discovery
from vidgen_core.frozen import Frozen

__all__ = ["DATA_TABLES", "Brought", "FunnelRow", "Prepared", "analysis_units", "bring", "candidates", "prepare"]

DATA_TABLES = ("sources", "spans", "clips", "captions", "rejects")
_ANALYSIS_VERSION = 1


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


@dataclass(frozen=True)
class Brought:
    """Where the tables of sources, spans and clips were brought.

    Attributes:
        unique: Sources by id, in order; copies and what was taken down are not among them.
        kept: Spans that are to be clips, with their captions.
        rejects: Rows of `rejects` for the spans that are not.
        select: The thresholds as numbers.
        laps: How long each part took.

    """

    unique: dict[str, Source]
    kept: pa.Table
    rejects: pa.Table
    select: Select
    laps: dict[str, float]


def prepare(
    videos: Path, tables: Tables, settings: DataSettings, runner: Runner, *, progress: Progress = lambda *_: None
) -> Prepared:
    """Bring the data tables up to date with a folder of videos.

    Raises:
        VidgenError: The folder has no videos, no clip is left, or errors cost more than the loss budget.

    """
    shop = Workshop(tables, runner, progress, settings.source_deadline_s)
    found = identify(list_files(videos), videos)
    brought = bring(found, shop, settings)
    there = pc.is_in(brought.kept["clip_id"], tables.read("clips", ["clip_id"])["clip_id"].combine_chunks())
    kept, failed = brought.kept.filter(there), brought.kept.filter(pc.invert(there))
    tables.replace("captions", _caption_rows(kept))
    lost = losses.lost_sources(tables, found, brought.unique)
    rejects = pa.concat_tables(
        [
            pa.Table.from_pylist(lost, SCHEMAS["rejects"]),
            brought.rejects,
            losses.cut_failures(failed, losses.tries(tables, "cut")),
        ]
    )
    tables.replace("rejects", rejects)
    losses.check_budget(rejects, len(brought.unique), settings.loss_budget)
    if not len(kept):
        raise losses.nothing_left(tables, len(found), rejects)
    reasons = Counter(rejects["reason"].to_pylist())
    return Prepared(
        funnel=_funnel(tables, len(found), rejects, brought.laps),
        reasons=dict(reasons.most_common()),
        release=tables.release(DATA_TABLES),
    )


def bring(found: Sequence[Source], shop: Workshop, settings: DataSettings) -> Brought:
    """Analyze, decide, caption and cut what is not done yet; `plan` runs the same with a shop that only looks."""
    tables, seconds = shop.tables, _Seconds()
    gone = set(tables.read("forgotten", ["source_id"])["source_id"].to_pylist())
    first = {source.source_id: source for source in reversed(found)}
    unique = {key: source for key, source in reversed(first.items()) if key not in gone}
    units = analysis_units(list(unique.values()), settings, losses.tries(tables, "analyze"))
    work = partial(_analyze_unit, tables=tables, settings=settings)
    shop.run(units, work, ("dead", "spans", "sources"))
    seconds.lap("sources committed")
    spans, select = candidates(tables, settings)
    verdicts = judge(spans, select)
    kept, rejects = spans.filter(pa.array(verdicts.kept)), losses.dropped_spans(spans, verdicts)
    if settings.captioner.weights:
        kept, silent = _caption(kept, unique, shop, settings)
        rejects = pa.concat_tables([rejects, losses.silent_spans(silent)])
        seconds.lap("captioned spans")
    kept = with_media_keys(kept)
    cut_all(kept, unique, shop, settings, losses.tries(tables, "cut"))
    seconds.lap("clips")
    return Brought(unique, kept, rejects, select, seconds.laps)


def candidates(tables: Tables, settings: DataSettings) -> tuple[pa.Table, Select]:
    """All spans with all their scores, and the thresholds as numbers; where a captioner will speak, silence passes."""
    spans = measured(tables.read("spans"), tables.read("sources", SOURCE_COLUMNS), frames=settings.frames)
    changed = {"need_caption": settings.select.need_caption and not settings.captioner.weights}
    return spans, resolve(spans, settings.select.model_copy(update=changed))


class _Seconds:
    """How long each part took."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._last = round(now - self._last, 1), now


def _funnel(tables: Tables, files: int, rejects: pa.Table, laps: Mapping[str, float]) -> tuple[FunnelRow, ...]:
    levels = Counter(rejects["level"].to_pylist())
    counts = {"files": files, "sources committed": len(tables.read("sources", ["source_id"])),
              "sources rejected": levels["source"], "spans": len(tables.read("spans", ["clip_id"]))}  # fmt: skip
    if "captioned spans" in laps:
        counts["captioned spans"] = len(tables.read(GENERATED, ["clip_id"]))
    counts |= {"spans dropped": levels["span"], "clips": len(tables.read("captions", ["clip_id"]))}
    return tuple(FunnelRow(name=name, rows=rows, seconds=laps.get(name)) for name, rows in counts.items())


def analysis_units(sources: Sequence[Source], settings: DataSettings, tries: Mapping[str, int]) -> list[Unit]:
    """The analysis of each source, under the key of all that it depends on."""
    stages = discovery.names("data_prep.stages")
    versions = {name: discovery.load("data_prep.stages", name).VERSION for name in stages}
    relevant = settings.model_dump(mode="json", include={"frames", "height", "width", "frame_rate", "held_out_share",
                                                         "shots"})  # fmt: skip
    common = {"settings": relevant, "versions": {**versions, "shots": shots.VERSION, "analysis": _ANALYSIS_VERSION}}
    units = []
    for source in sources:
        captions = digests.of_value(repr(read_sidecar(source.file)))
        tried = tries.get(source.source_id, 0)
        made = {**common, "source_id": source.source_id, "uri": source.uri, "captions": captions, "tries": tried}
        units.append(Unit(digests.of_value(made, 32), source, made=json.dumps(made), tries=tried))
    return units


def _analyze_unit(unit: Unit, *, tables: Tables, settings: DataSettings) -> dict[str, Part]:
    """Write a source's files; a file that cannot be decoded gets its row among the dead."""
    try:
        analysis = analyze(unit.source, settings)
        rows = {"sources": [analysis.source], "spans": analysis.spans}
    except Undecodable as error:
        rows = {"dead": [dead_row(unit.source, error.reason, error.message, 1 + unit.tries)]}
    tables_of = ("dead", "spans", "sources")
    return {name: write(tables, name, unit.key, rows.get(name, []), made=unit.made) for name in tables_of}


def _caption(
    spans: pa.Table, sources: Mapping[str, Source], shop: Workshop, settings: DataSettings
) -> tuple[pa.Table, pa.Table]:
    """The spans, with a generated caption where they had none, and apart those still silent if a caption is needed."""
    without = spans.filter(pc.equal(spans["caption"], "")).to_pylist()
    generated = caption_spans(without, sources, shop, settings.captioner)
    for name in ("caption", "caption_origin"):
        pairs = zip(spans["clip_id"].to_pylist(), spans[name].to_pylist(), strict=True)
        said = [generated.get(clip_id, {}).get(name, old) for clip_id, old in pairs]
        spans = spans.set_column(spans.schema.get_field_index(name), name, pa.array(said, pa.string()))
    speaks = pc.not_equal(spans["caption"], "")
    if settings.select.need_caption:
        return spans.filter(speaks), spans.filter(pc.invert(speaks))
    return spans, spans.slice(0, 0)


def _caption_rows(kept: pa.Table) -> pa.Table:
    named = kept.select(["clip_id", "source_id", "caption", "caption_origin", "split"])
    return named.rename_columns(SCHEMAS["captions"].names).cast(SCHEMAS["captions"])
