"""Videos to clips: analyze each source once, decide over all spans, cut what was kept.

Each source is a unit of work, keyed by its bytes, its captions and the settings; what is in the tables under that
key is never done again, and what is there under another key is replaced.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from data_prep import shots
from data_prep.analyze import analyze
from data_prep.captions import read_sidecar
from data_prep.clips import ENCODING_VERSION, cut
from data_prep.decode import Undecodable
from data_prep.run import Failure, Runner
from data_prep.select import Reason, verdicts
from data_prep.settings import DataSettings
from data_prep.sources import Source, identify, list_files
from data_prep.tables import SCHEMAS, Part, Release, Tables, write_part
from vidgen_core import digests, discovery
from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen

__all__ = ["DATA_TABLES", "FunnelRow", "Prepared", "prepare"]

DATA_TABLES = ("sources", "spans", "clips", "captions", "rejects")
_ANALYSIS_VERSION = 1
_COMMIT_EVERY_UNITS = 16
Progress = Callable[[int, int], None]


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


class _Unit(NamedTuple):
    """A source (or the kept spans of one) to work on, and the key that its result is kept under."""

    key: str
    source: Source
    spans: tuple[dict[str, Any], ...] = ()


def prepare(
    videos: Path, tables: Tables, settings: DataSettings, runner: Runner, *, progress: Progress = lambda *_: None
) -> Prepared:
    """Bring the data tables up to date with a folder of videos.

    Raises:
        VidgenError: The folder has no videos, or no clip is left.

    """
    files = list_files(videos)
    found = identify(files, videos)
    unique = list({source.source_id: source for source in reversed(found)}.values())[::-1]
    began = time.monotonic()
    _analyze_all(unique, tables, settings, runner, progress)
    analyzed_s = time.monotonic() - began
    kept, dropped = _decide(tables, settings)
    began = time.monotonic()
    _cut_all(kept, {source.source_id: source for source in unique}, tables, settings, runner, progress)
    cut_s = time.monotonic() - began
    captions = [{name: span[name] for name in ("clip_id", "source_id", "caption", "split")} for span, _ in kept]
    for row, (span, _) in zip(captions, kept, strict=True):
        row["origin"] = span["caption_origin"]
    tables.replace("captions", pa.Table.from_pylist(captions, SCHEMAS["captions"]))
    lost = _lost(tables, found, unique)
    tables.replace("rejects", pa.Table.from_pylist([*lost, *map(_span_reject, dropped)], SCHEMAS["rejects"]))
    sources, spans = len(tables.read("sources", ["source_id"])), len(tables.read("spans", ["clip_id"]))
    if not kept:
        raise _nothing_left(len(files), len(lost), spans, dropped)
    funnel = (
        FunnelRow(name="files", rows=len(files)),
        FunnelRow(name="sources committed", rows=sources, seconds=round(analyzed_s, 1)),
        FunnelRow(name="sources rejected", rows=len(lost)),
        FunnelRow(name="spans", rows=spans),
        FunnelRow(name="spans dropped", rows=len(dropped)),
        FunnelRow(name="clips", rows=len(kept), seconds=round(cut_s, 1)),
    )
    reasons = Counter([row["reason"] for row in lost] + [reason.rule for _, reason in dropped])
    return Prepared(funnel=funnel, reasons=dict(reasons.most_common()), release=tables.release(DATA_TABLES))


def _analyze_all(
    sources: Sequence[Source], tables: Tables, settings: DataSettings, runner: Runner, progress: Progress
) -> None:
    """Rows of `sources`, `spans` and `dead` for every source, and of no other."""
    versions = {name: discovery.load("data_prep.stages", name).VERSION for name in discovery.names("data_prep.stages")}
    relevant = settings.model_dump(mode="json", include={"frames", "height", "width", "frame_rate", "held_out_share",
                                                         "shots"})  # fmt: skip
    common = [relevant, versions, shots.VERSION, _ANALYSIS_VERSION]
    units = []
    for source in sources:
        sidecar = read_sidecar(source.file)
        key = digests.of_value([common, source.source_id, source.uri, repr(sidecar)], 32)
        units.append(_Unit(key, source))
    work = partial(_analyze_unit, tables=tables, settings=settings)
    names = ("dead", "spans", "sources")
    _run(units, work, tables, names, runner, progress, settings.source_deadline_s)


def _analyze_unit(unit: _Unit, *, tables: Tables, settings: DataSettings) -> dict[str, Part]:
    """Write a source's files; a file that cannot be decoded gets its row among the dead."""
    try:
        analysis = analyze(unit.source, settings)
        rows = {"sources": [analysis.source], "spans": analysis.spans}
    except Undecodable as error:
        rows = {"dead": [_dead_row(unit.source, error.reason, error.message, 1)]}
    return {name: _write(tables, name, unit.key, rows.get(name, [])) for name in ("dead", "spans", "sources")}


def _decide(
    tables: Tables, settings: DataSettings
) -> tuple[list[tuple[dict[str, Any], None]], list[tuple[dict[str, Any], Reason]]]:
    judged = verdicts(tables.read("spans"), settings.select, frames=settings.frames)
    judged.sort(key=lambda pair: pair[0]["clip_id"])
    return [(span, None) for span, reason in judged if reason is None], [(s, r) for s, r in judged if r is not None]


def _cut_all(
    kept: Sequence[tuple[dict[str, Any], None]],
    sources: dict[str, Source],
    tables: Tables,
    settings: DataSettings,
    runner: Runner,
    progress: Progress,
) -> None:
    """Rows of `clips` for every kept span, and of no other."""
    by_source: dict[str, list[dict[str, Any]]] = {}
    for span, _ in kept:
        by_source.setdefault(span["source_id"], []).append(span)
    units = []
    for source_id, spans in sorted(by_source.items()):
        key = digests.of_value([[(s["clip_id"], s["split"], *_crop(s)) for s in spans], ENCODING_VERSION], 32)
        units.append(_Unit(key, sources[source_id], tuple(spans)))
    work = partial(_cut_unit, tables=tables, settings=settings)
    _run(units, work, tables, ("clips",), runner, progress, settings.source_deadline_s)


def _cut_unit(unit: _Unit, *, tables: Tables, settings: DataSettings) -> dict[str, Part]:
    return {"clips": _write(tables, "clips", unit.key, cut(unit.source.file, unit.spans, settings))}


def _run(  # noqa: PLR0913, PLR0917 - the two passes differ in all of these
    units: Sequence[_Unit],
    work: Callable[[_Unit], dict[str, Part]],
    tables: Tables,
    names: Sequence[str],
    runner: Runner,
    progress: Progress,
    deadline_s: float,
) -> None:
    """Do the units that the last of the tables does not have, committing as they finish; drop stale ones first.

    The last table is committed last: a unit that is in it is in all of them.
    """
    wanted = {unit.key for unit in units}
    have = tables.committed(names[-1])
    for name in reversed(names):
        tables.commit(name, _schema(name), [], drop=tables.committed(name) - (wanted & have))
    todo = [unit for unit in units if unit.key not in have]
    finished: list[dict[str, Part]] = []
    for done, (unit, result) in enumerate(runner.map(work, todo, deadline_s=deadline_s), start=1):
        if isinstance(result, Failure):
            row = _dead_row(unit.source, result.reason, result.message, result.attempts)
            result = {name: _write(tables, name, unit.key, [row] if name == "dead" else []) for name in names}
        finished.append(result)
        if len(finished) >= _COMMIT_EVERY_UNITS:
            _commit(tables, names, finished)
            finished = []
        progress(len(have & wanted) + done, len(units))
    _commit(tables, names, finished)


def _commit(tables: Tables, names: Iterable[str], finished: Sequence[dict[str, Part]]) -> None:
    for name in names:
        tables.commit(name, _schema(name), [parts[name] for parts in finished])


def _write(tables: Tables, name: str, unit: str, rows: list[dict[str, Any]]) -> Part:
    file = tables.part_file(name, unit)
    write_part(file, pa.Table.from_pylist(rows, _schema(name)))
    return Part(unit, file, len(rows))


def _schema(name: str) -> pa.Schema:
    return SCHEMAS["rejects" if name == "dead" else name]


def _crop(span: dict[str, Any]) -> tuple[int, ...]:
    return tuple(span[f"crop_{part}"] for part in "xywh")


def _dead_row(source: Source, reason: str, message: str, attempts: int) -> dict[str, Any]:
    return {"level": "source", "source_id": source.source_id, "clip_id": "", "uri": source.uri, "stage": "analyze",
            "reason": reason, "value": None, "threshold": None, "message": message, "attempts": attempts}  # fmt: skip


def _span_reject(judged: tuple[dict[str, Any], Reason]) -> dict[str, Any]:
    span, reason = judged
    return {"level": "span", "source_id": span["source_id"], "clip_id": span["clip_id"], "uri": span["uri"],
            "stage": "select", "reason": reason.rule, "value": reason.value, "threshold": reason.threshold,
            "message": reason.sentence(), "attempts": 1}  # fmt: skip


def _lost(tables: Tables, found: Sequence[Source], unique: Sequence[Source]) -> list[dict[str, Any]]:
    """Every file that is no source: the dead, and copies of a file that is one already."""
    first = {source.source_id: source.uri for source in unique}
    copies = [
        _dead_row(source, "duplicate", f"The same bytes as {first[source.source_id]}", 1)
        for source in found
        if source.uri != first[source.source_id]
    ]
    return [*tables.read("dead").to_pylist(), *copies] if tables.exists("dead") else copies


def _nothing_left(files: int, lost: int, spans: int, dropped: Sequence[tuple[dict[str, Any], Reason]]) -> VidgenError:
    if not spans:
        what = f"None of the {files} files gives a clip: {lost} cannot be used, and the others are shorter than a clip"
        return VidgenError(what, move="Name a folder with longer videos, or ask for shorter clips: --set data.frames=5")
    rule, count = Counter(reason.rule for _, reason in dropped).most_common(1)[0]
    return VidgenError(
        f"All {spans} candidate clips were dropped, {count} of them by the rule {rule}",
        move="Put captions beside the videos (NAME.txt or NAME.vtt), or give --set data.select.need_caption=false"
        if rule == "need_caption"
        else f"Loosen it with --set data.select.{rule}=...",
    )
