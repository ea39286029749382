"""Videos to clips: analyze each source once, decide over all spans, cut what was kept.

Each source is a unit of work, keyed by its bytes, its captions and the settings; what is in the tables under that
key is never done again, and what is there under another key is replaced.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_prep import losses, shots
from data_prep.analyze import analyze
from data_prep.audio import AUDIO, keep_audio
from data_prep.bounds import bounded_memory, costs_itself
from data_prep.captioning import GENERATED, Captioned, caption_rows, caption_spans, try_out
from data_prep.captions import read_sidecar
from data_prep.cutting import cut_all, of_each_shape, with_media_keys
from data_prep.decode import Undecodable
from data_prep.duplicates import fingerprint
from data_prep.duplicates.matches import Pair
from data_prep.duplicates.resolve import fail_on_leaks
from data_prep.duplicates.resolve import resolve as resolve_copies
from data_prep.duplicates.semantic import EMBEDDINGS
from data_prep.fetching import find
from data_prep.matching import deferred, matched, rounds, without_rules
from data_prep.needs import needs
from data_prep.placing import TELLING, lengths
from data_prep.rights import RIGHTS, note_rights
from data_prep.run import Runner
from data_prep.score_settings import ScoreSettings
from data_prep.scoring import (
    CAPTION_SCORES,
    LOOKED_AT,
    SCORES,
    Round,
    check_rules,
    score_spans,
    with_scores,
    without_weights,
)
from data_prep.select import SOURCE_COLUMNS, Select, asked, judge, measured, resolve
from data_prep.settings import CaptionerSettings, DataSettings
from data_prep.sources import Source
from data_prep.tables import SCHEMAS, Part, Release, Tables
from data_prep.units import Progress, Unit, Workshop, dead_row, tries, write
from vidgen_core import digests, discovery
from vidgen_core.frozen import Frozen

__all__ = [
    "CARRIED",
    "DATA_TABLES",
    "Brought",
    "FunnelRow",
    "Prepared",
    "analysis_units",
    "bring",
    "candidates",
    "data_release",
    "prepare",
]

DATA_TABLES = ("sources", "spans", "clips", "captions", "rejects")
_OPTIONAL = (SCORES, CAPTION_SCORES, AUDIO, RIGHTS)  # of a release only where they have rows
_ANALYSIS_VERSION = 4
_ANALYZED = ("dead", "spans", "fingerprints", "sources")
# The passes that decode sources, by the table that they fill.
_PASSES = {"sources": "analyze", SCORES: "score", EMBEDDINGS: "embed", GENERATED: "caption", CAPTION_SCORES: "match",
           "clips": "cut"}  # fmt: skip
# What passes read of a span, and not all columns: rows of a million spans are gigabytes.
_PLACE = ["clip_id", "source_id", "uri", "start_pts", "stop_pts", "crop_x", "crop_y", "crop_w", "crop_h"]
_COMPARED = ["clip_id", "source_id", "uri", "start_s", "stop_s"]
_TRIED = [*_PLACE, "caption", "caption_origin"]
_SPOKEN_OF = [*_TRIED, "split", "shot"]
CARRIED = list(dict.fromkeys([*_TRIED, "shot", *_COMPARED, "time_base"]))
"""What a span has with it on its way to a clip; of its scores it has those that rules ask for."""
_SHAPING = {"frames", "height", "width", "shapes", "frame_rate", "shots"}  # the settings that spans hang on
Captioning = Callable[[Sequence[dict[str, Any]], Mapping[str, Source], Workshop, CaptionerSettings], Captioned]
Scoring = Callable[[pa.Table, Mapping[str, Source], Workshop, ScoreSettings, Round], None]


class FunnelRow(Frozen):
    """A step of the funnel: so many of something, in so many seconds."""

    name: str
    rows: int
    seconds: float | None = None
    note: str = ""


class Prepared(Frozen):
    """What came out.

    Args:
        funnel: From files to clips.
        reasons: Why things were dropped: reason -> count.
        decoded_per_source_frame: What this run decoded, over the frames of all sources, for each pass that decodes.
        release: The data tables as they are now.
        notes: What the user has to see.

    """

    funnel: tuple[FunnelRow, ...]
    reasons: dict[str, int]
    decoded_per_source_frame: dict[str, float]
    release: Release
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Brought:
    """Where the tables of sources, spans and clips were brought.

    Attributes:
        unique: Sources by id, in order; copies and what was taken down are not among them.
        kept: Spans that are to be clips.
        said: Their captions.
        rejects: Rows of `rejects` for the spans that are not.
        select: The thresholds as numbers.
        pairs: Sources that show the same footage.
        groups: How many groups of such sources there are.
        laps: How long each part took.

    """

    unique: dict[str, Source]
    kept: pa.Table
    said: Captioned
    rejects: pa.Table
    select: Select
    pairs: set[Pair]
    groups: int
    laps: dict[str, float]


def prepare(
    videos: Path | str, tables: Tables, settings: DataSettings, runner: Runner, *, progress: Progress = lambda *_: None
) -> Prepared:
    """Bring the data tables up to date with a folder of videos, or a place such as s3://bucket/videos.

    Raises:
        VidgenError: The folder has no videos, a rule's score has no weights, no clip is left, or errors cost more than
            the loss budget.

    """
    tables.clear_unfinished()
    check_rules(settings.select, settings.scores)
    came = find(videos, tables, runner)
    shop, found = Workshop(tables, came.runner, progress, settings.source_deadline_s), came.sources
    try:
        note_rights(found, tables)
        _try_captioners(found, tables, settings)
        brought = bring(found, shop, settings)
    finally:
        came.clear()
    tables.tidy()
    there = pc.is_in(brought.kept["clip_id"], tables.read("clips", ["clip_id"])["clip_id"].combine_chunks())
    kept, failed = brought.kept.filter(there), brought.kept.filter(pc.invert(there))
    fail_on_leaks(tables, brought.pairs)
    tables.replace("captions", caption_rows(kept, brought.said))
    lost = losses.lost_sources(tables, found, brought.unique)
    rejects = pa.concat_tables(
        [
            pa.Table.from_pylist([*lost, *came.lost], SCHEMAS["rejects"]),
            brought.rejects,
            losses.cut_failures(tables, failed),
            losses.failed_parts(tables, brought.unique),
        ]
    )
    tables.replace("rejects", rejects)
    losses.check_budget(rejects, len(brought.unique) + len(came.lost), settings.loss_budget)
    files = len(found) + len(came.lost)
    if not len(kept):
        raise losses.nothing_left(tables, files, rejects)
    reasons = Counter(rejects["reason"].to_pylist())
    decoded = _decoded_per_source_frame(shop)
    return Prepared(
        funnel=_funnel(tables, files, rejects, brought, _notes(decoded, tables, settings)),
        reasons=dict(reasons.most_common()),
        decoded_per_source_frame=decoded,
        release=data_release(tables),
        notes=(*brought.said.notes, *losses.in_quarantine(rejects)),
    )


def data_release(tables: Tables) -> Release:
    """The data tables as they are now."""
    return tables.release([*DATA_TABLES, *(name for name in _OPTIONAL if len(tables.read(name, ["source_id"])))])


def bring(
    found: Sequence[Source],
    shop: Workshop,
    settings: DataSettings,
    score: Scoring = score_spans,
    caption: Captioning = caption_spans,
) -> Brought:
    """Analyze, decide, caption and cut what is not done yet; `plan` does the same with a shop that only looks."""
    tables, seconds = shop.tables, _Seconds()
    gone = set(tables.read("forgotten", ["source_id"])["source_id"].to_pylist())
    first = {source.source_id: source for source in reversed(found)}
    unique = {key: source for key, source in reversed(first.items()) if key not in gone}
    units = analysis_units(list(unique.values()), settings, tries(tables, "analyze"))
    work = partial(_analyze_unit, tables=tables, settings=settings)
    shop.run(units, work, _ANALYZED, adopt=True)
    seconds.lap("sources committed")

    def look(some: pa.Table, which: Round) -> None:
        score(some, unique, shop, settings.scores, which)

    everybody, later = rounds(settings)
    for which in (everybody,) if settings.captioner.named else (everybody, later):
        look(tables.read("spans", LOOKED_AT), which)
    seconds.lap("spans")
    spans, select = candidates(tables, settings, wait=True, columns=CARRIED)
    verdicts = judge(spans, select)
    kept = spans.select(CARRIED).filter(pa.array(verdicts.kept))
    rejects = losses.dropped_spans(spans, verdicts)
    copies = resolve_copies(_compared(kept, settings), unique, shop, settings)
    kept = _with_splits(kept, copies.kept)
    rejects = pa.concat_tables([rejects, losses.copied_spans(copies.dropped)])
    seconds.lap("duplicate groups")
    said = Captioned({})
    if settings.captioner.named:
        said = caption(kept.select(_SPOKEN_OF).to_pylist(), unique, shop, settings.captioner)
        kept, silent = _heard(kept, said, settings)
        seconds.lap("captioned spans")
        kept, unfit, waited = matched(kept, said, tables, settings, look)
        select = select.model_copy(update=waited)
        rejects = pa.concat_tables([rejects, silent, unfit])
        seconds.lap("matched spans")
    kept = with_media_keys(kept)
    cut_all(kept, unique, shop, settings, tries(tables, "cut"))
    seconds.lap("clips")
    keep_audio(kept, unique, shop, settings)
    seconds.lap("clips with sound")
    return Brought(unique, kept, said, rejects, select, copies.pairs, copies.groups, seconds.laps)


def _compared(kept: pa.Table, settings: DataSettings) -> list[dict[str, Any]]:
    """The spans as the search for copies reads them; where models compare pictures, with their places."""
    columns = [*_COMPARED, *(_PLACE if settings.duplicates.semantic.weights else [])]
    return kept.select(list(dict.fromkeys(columns))).to_pylist()


def candidates(
    tables: Tables, settings: DataSettings, *, wait: bool = False, columns: Sequence[str] | None = None
) -> tuple[pa.Table, Select]:
    """All spans with all their scores, and the thresholds as numbers; where a captioner will speak, silence passes.

    With `wait` the rules that are asked once there are captions are off. With `columns` spans have these columns and
    the scores that rules ask for, and maybe more: a million spans are read in half the time.
    """
    if columns is not None:
        wanted = {*columns, *asked(settings.select), "clip_id", "source_id", "caption", "distinct_frames", *TELLING}
        columns = [name for name in SCHEMAS["spans"].names if name in wanted]
    told = pa.concat_tables([tables.read(SCORES), tables.read(CAPTION_SCORES)])
    scored = with_scores(tables.read("spans", columns), told)
    rights = tables.read(RIGHTS, ["source_id", "license"]) if settings.select.licenses else None
    spans = measured(scored, tables.read("sources", SOURCE_COLUMNS), frames=lengths(scored, settings), rights=rights)
    changed = {"need_caption": settings.select.need_caption and not settings.captioner.named}
    select = settings.select.model_copy(update=changed)
    return spans, resolve(spans, without_rules(select, deferred(settings)) if wait else select)


class _Seconds:
    """How long each part took."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._last = round(now - self._last, 1), now


def _funnel(
    tables: Tables, files: int, rejects: pa.Table, brought: Brought, notes: Mapping[str, str]
) -> tuple[FunnelRow, ...]:
    laps = brought.laps
    levels = Counter(rejects["level"].to_pylist())
    counts = {"files": files, "sources committed": len(tables.read("sources", ["source_id"])),
              "sources rejected": levels["source"], "spans": len(tables.read("spans", ["clip_id"])),
              "duplicate groups": brought.groups}  # fmt: skip
    if "captioned spans" in laps:
        counts["captioned spans"] = sum(any(row["caption"] for row in rows) for rows in brought.said.rows.values())
    counts |= {"spans dropped": levels["span"], "clips": len(tables.read("clips", ["clip_id"]))}
    if len(sound := tables.read(AUDIO, ["audio_sha256"])["audio_sha256"]):
        counts["clips with sound"] = len(sound) - sound.null_count
    return tuple(
        FunnelRow(name=name, rows=rows, seconds=laps.get(name), note=notes.get(name, ""))
        for name, rows in counts.items()
    )


def _notes(decoded: Mapping[str, float], tables: Tables, settings: DataSettings) -> dict[str, str]:
    """What else is to be said about a row of the funnel."""
    passes = ", ".join(f"{share:.2f} to {name}" for name, share in decoded.items())
    idle = ", ".join(without_weights(settings.scores))
    notes = {"sources committed": f"frames decoded a source frame: {passes}" if passes else "",
             "spans": f"null scores: {idle}; give data.scores.NAME.weights=FILE" if idle else "",
             "clips": of_each_shape(tables, settings) if settings.shapes else ""}  # fmt: skip
    return {name: note for name, note in notes.items() if note}


def _decoded_per_source_frame(shop: Workshop) -> dict[str, float]:
    """By pass: the frames that this run decoded, over those that all sources have; a pass without work is left out."""
    frames = sum(shop.tables.read("sources", ["frames"])["frames"].to_pylist())
    return {name: round(shop.decoded[table] / frames, 4) for table, name in _PASSES.items() if shop.decoded[table]}


def analysis_units(sources: Sequence[Source], settings: DataSettings, tries: Mapping[str, int]) -> list[Unit]:
    """The analysis of each source, under the key of all that it depends on."""
    stages = discovery.names("data_prep.stages")
    versions = {name: discovery.load("data_prep.stages", name).VERSION for name in stages}
    relevant = settings.model_dump(mode="json", include=_SHAPING)
    relevant["shots"].pop("weights")  # what they hold counts, not where they lie
    common = {
        "settings": relevant,
        "versions": {
            **versions,
            "shots": shots.version(settings.shots),
            "fingerprint": fingerprint.VERSION,
            "analysis": _ANALYSIS_VERSION,
        },
    }
    units = []
    for source in sources:
        beside = read_sidecar(source.file)
        tried = tries.get(source.source_id, 0)
        made = {**common, "source_id": source.source_id, "uri": source.uri, "captions": beside.digest, "tries": tried}
        carried = None if beside.cues else beside
        units.append(Unit(digests.of_value(made, 32), source, made=json.dumps(made), tries=tried, beside=carried))
    return units


@needs(memory_gib=1.5)
@costs_itself
def _analyze_unit(unit: Unit, *, tables: Tables, settings: DataSettings) -> dict[str, Part]:
    """Write a source's files; a file that cannot be decoded gets its row among the dead."""
    try:
        # A detector's libraries are not the source's doing: torch takes 3 GiB of address space.
        discovery.load("data_prep.shot_detectors", settings.shots.detector)
        beside = unit.beside or read_sidecar(unit.source.file)
        if beside.digest != json.loads(unit.made)["captions"]:
            raise Undecodable("captions_changed", "Its captions changed while it waited; the next run reads them")
        with bounded_memory():
            analysis = analyze(unit.source, settings, beside)
        rows = {"sources": [analysis.source], "spans": analysis.spans, "fingerprints": [analysis.fingerprint]}
    except Undecodable as error:
        rows = {"dead": [dead_row(unit.source, error.reason, error.message, 1 + unit.tries)]}
    return {name: write(tables, name, unit.key, rows.get(name, []), made=unit.made) for name in _ANALYZED}


def _try_captioners(found: Sequence[Source], tables: Tables, settings: DataSettings) -> None:
    """Before hours of decoding: a captioner that cannot be, or a server that does not answer, is said at once."""
    if not settings.captioner.named:
        return
    names = [name for name in ("sources", "dead") if tables.exists(name)]
    known = {source for name in names for source in tables.read(name, ["source_id"])["source_id"].to_pylist()}
    spans, select = candidates(tables, settings, wait=True, columns=_TRIED)
    kept = spans.select(_TRIED).filter(pa.array(judge(spans, select).kept)).to_pylist()
    try_out(kept, any(source.source_id not in known for source in found), tables, settings.captioner)


def _with_splits(spans: pa.Table, kept: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The spans that are no copies, each with its side of the split."""
    sides = {span["clip_id"]: span["split"] for span in kept}
    placed = pa.array([sides.get(clip_id) for clip_id in spans["clip_id"].to_pylist()], pa.string())
    spans = spans.append_column("split", placed)
    return spans.filter(pc.is_valid(spans["split"]))


def _heard(kept: pa.Table, said: Captioned, settings: DataSettings) -> tuple[pa.Table, pa.Table]:
    """The spans with a caption if one is needed, and rows of `rejects` for the others and for captions that failed."""
    needed = settings.select.need_caption
    spans = kept.select(_SPOKEN_OF).to_pylist()
    stays = [not needed or bool(said.of(span)[0]["caption"]) for span in spans]
    rows = [
        losses.silent_span(span, said, needed=not stayed)
        for span, stayed in zip(spans, stays, strict=True)
        if not stayed or said.trouble(span)
    ]
    return kept.filter(pa.array(stays, pa.bool_())), pa.Table.from_pylist(rows, SCHEMAS["rejects"])
