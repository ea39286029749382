"""What did not become a clip: rows of `rejects`, the sources that were taken down, and the budget for losses."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_prep.captioning import Captioned
from data_prep.duplicates.groups import Copied
from data_prep.select import Select, Verdicts
from data_prep.sources import Source
from data_prep.sql import ask
from data_prep.tables import SCHEMAS, Tables
from data_prep.units import DIED, FAILURES, dead_row, tries
from vidgen_core.errors import VidgenError

__all__ = [
    "FETCH",
    "EMPTY_EXIT",
    "LOSS_EXIT",
    "check_budget",
    "copied_spans",
    "cut_failures",
    "dropped_spans",
    "failed_parts",
    "in_quarantine",
    "is_error",
    "lost_sources",
    "nothing_left",
    "silent_span",
]

LOSS_EXIT = 3
EMPTY_EXIT = 4
# The stage of `rejects` for what could not be had; its next run tries it again by itself.
FETCH = "fetch"
# What it lost is told span by span.
_CUT = FAILURES + "cut"


def dropped_spans(spans: pa.Table, verdicts: Verdicts) -> pa.Table:
    """Rows of `rejects` for the spans that a rule dropped, with the value and the threshold."""
    judged = spans.select(["source_id", "clip_id", "uri"])
    for name in ("rule", "value", "threshold", "message"):
        judged = judged.append_column(name, getattr(verdicts, name))
    return ask(
        """SELECT 'span' AS level, source_id, clip_id, uri, 'select' AS stage, rule AS reason, value, threshold,
                  CASE WHEN message IS NOT NULL THEN message
                       WHEN value IS NULL THEN rule || ': there is no score, and a missing score is not a pass'
                       ELSE format('{}: {:.4g} against {:.4g}', rule, value, threshold) END AS message, 1 AS attempts
           FROM judged WHERE rule IS NOT NULL""",
        judged=judged,
    ).cast(SCHEMAS["rejects"])


def copied_spans(copies: Sequence[tuple[Mapping[str, Any], Copied]]) -> pa.Table:
    """Rows of `rejects` for spans whose footage is kept elsewhere."""
    rows = [
        {**{name: span[name] for name in ("source_id", "clip_id", "uri")}, "level": "span", "stage": "duplicates",
         "reason": why.rule, "value": why.value, "threshold": why.threshold, "message": why.sentence(), "attempts": 1}
        for span, why in copies
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, SCHEMAS["rejects"])


def silent_span(span: dict[str, Any], said: Captioned, *, needed: bool) -> dict[str, Any]:
    """A row of `rejects` for a span without a caption, or a needless one that failed: the span stays then."""
    named = {name: span[name] for name in ("source_id", "clip_id", "uri")}
    trouble, message = said.trouble(span), said.why_silent(span)
    reason = f"caption_{trouble}" if trouble else "need_caption"
    return {**named, "level": "span" if needed else "part", "stage": "caption", "reason": reason, "value": 0.0,
            "threshold": 1.0, "message": message, "attempts": said.attempts(span)}  # fmt: skip


def failed_parts(tables: Tables, sources: Collection[str]) -> pa.Table:
    """Rows of `rejects` for what stages between analysis and cutting, and beside it, lost of sources that there are."""
    stages = [name for name in tables.names() if name.startswith(FAILURES) and name != _CUT]
    found = [tables.read(name) for name in stages if tables.files(name)]
    rows = pa.concat_tables([SCHEMAS["rejects"].empty_table(), *found])
    return rows.filter(pc.is_in(rows["source_id"], pa.array(sorted(sources), pa.string())))


def cut_failures(tables: Tables, spans: pa.Table) -> pa.Table:
    """Rows of `rejects` for kept spans without media: cutting their source failed, or it did not come."""
    tried = tries(tables, "cut")
    rows = tables.read(_CUT) if tables.exists(_CUT) and tables.files(_CUT) else SCHEMAS["rejects"].empty_table()
    return ask(
        """SELECT 'span' AS level, spans.source_id, spans.clip_id, spans.uri, 'cut' AS stage,
                  coalesce(lost.reason, 'cut_failed') AS reason, NULL AS value, NULL AS threshold,
                  coalesce(lost.message, 'The source did not come, or has no frames there any more') AS message,
                  coalesce(lost.attempts, 1 + coalesce(times, 0)) AS attempts
           FROM spans LEFT JOIN tried ON spans.source_id = tried.source_id
                      LEFT JOIN lost ON spans.source_id = lost.source_id""",
        spans=spans,
        lost=rows,
        tried=pa.table({"source_id": pa.array(tried, pa.string()), "times": pa.array(tried.values(), pa.int32())}),
    ).cast(SCHEMAS["rejects"])


def lost_sources(tables: Tables, found: Sequence[Source], unique: Mapping[str, Source]) -> list[dict[str, Any]]:
    """Every file that is no source: the dead, the taken down, and copies of a file that is one already."""
    first = {source_id: source.uri for source_id, source in unique.items()}
    days = {row["source_id"]: row["day"] for row in tables.read("forgotten").to_pylist()}
    rows = tables.read("dead").to_pylist() if tables.files("dead") else []
    for source in found:
        if source.source_id in days:
            message = f"Taken down with `vidgen forget` on {days[source.source_id]}"
            rows.append(dead_row(source, "forgotten", message, 0) | {"stage": "forget"})
        elif source.uri != first[source.source_id]:
            rows.append(dead_row(source, "duplicate", f"The same bytes as {first[source.source_id]}", 1))
    return rows


def is_error(rejects: pa.Table) -> pa.ChunkedArray:
    """Which rejects are losses to errors, and not a choice, a copy or a takedown [rows]."""
    chosen = pc.is_in(rejects["stage"], pa.array(["select", "duplicates", "forget"]))
    wanted = pc.is_in(rejects["reason"], pa.array(["duplicate", "need_caption"]))
    return pc.invert(pc.or_(chosen, wanted))


def check_budget(rejects: pa.Table, sources: int, budget: float) -> None:
    """Fail when errors cost more sources than they may; copies and takedowns are no errors.

    Raises:
        VidgenError: They did; its exit code is `LOSS_EXIT`.

    """
    errors = rejects.filter(is_error(rejects))
    lost = dict(zip(errors["source_id"].to_pylist(), errors["reason"].to_pylist(), strict=True))
    share = len(lost) / sources if sources else 0.0
    if share <= budget:
        return
    reason, count = Counter(lost.values()).most_common(1)[0]
    raise VidgenError(
        f"{len(lost)} of {sources} sources were lost to errors, {count} of them by {reason}; the rest is committed",
        got=f"{share:.1%}",
        allowed=f"data.loss_budget={budget:g}, a share of {budget:.1%}",
        move="Look at them with vidgen query \"select uri, reason, message from rejects where stage <> 'select'\", "
        "try them again with vidgen retry, or allow more",
        exit_code=LOSS_EXIT,
    )


def in_quarantine(rejects: pa.Table) -> tuple[str, ...]:
    """A sentence about the sources that are not tried again, where there are any."""
    died = pa.array([*DIED, "caption_crashed"])
    sources = rejects.filter(pc.is_in(rejects["reason"], died))["source_id"].unique()
    if not len(sources):
        return ()
    return (f"{len(sources)} sources ended or hung the process that worked on them; vidgen retry tries them again",)


def nothing_left(tables: Tables, files: int, rejects: pa.Table) -> VidgenError:
    """Why there is no clip, and what to do about it; its exit code is `EMPTY_EXIT`."""
    spans = len(tables.read("spans", ["clip_id"]))
    levels = Counter(rejects["level"].to_pylist())
    if not spans:
        lost = levels["source"]
        what = f"None of the {files} files gives a clip: {lost} cannot be used, and the others are shorter than a clip"
        move = "Name a folder with longer videos, or ask for shorter clips: --set data.frames=5"
        return VidgenError(what, move=move, exit_code=EMPTY_EXIT)
    own = pc.and_(pc.equal(rejects["level"], "span"), pc.not_equal(rejects["stage"], "duplicates"))
    dropped = rejects.filter(own).select(["reason", "message"]).to_pylist()
    rule, count = Counter(row["reason"] for row in dropped).most_common(1)[0]
    if rule not in Select.model_fields:
        message = next(row["message"] for row in dropped if row["reason"] == rule)
        return VidgenError(
            f"All {spans} candidate clips were dropped, {count} of them since they were lost to errors ({rule})",
            got=f"of the first: {message}",
            move="Mend what the message says; vidgen retry tries them again",
            exit_code=EMPTY_EXIT,
        )
    return VidgenError(
        f"All {spans} candidate clips were dropped, {count} of them by the rule {rule}",
        move="Put captions beside the videos (NAME.txt or NAME.vtt), or give --set data.select.need_caption=false"
        if rule == "need_caption"
        else "State licenses beside the videos (captions.jsonl), or ask for others: --set 'data.select.licenses=[...]'"
        if rule == "licenses"
        else f"Loosen it with --set data.select.{rule}=...",
        exit_code=EMPTY_EXIT,
    )
