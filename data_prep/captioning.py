"""Captions for spans: asked for once, kept under everything that fixes them, with where they come from and how it went.

A caption is keyed by the span, its pictures, the captioner's digest and the prompt. What failed is a dead letter: it
stays in `generated_captions` with its message and attempts, and is asked again by the next run, or, where its source
crashed or hung the process that looked at it, once somebody asks to try again.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from data_prep import stills
from data_prep.asking import GENERATED, PLACE, Seen, Work, module, over_clips
from data_prep.caption_alarms import Watch, checks, ring
from data_prep.captioners._contract import Asked, Captioner, CaptionerSettings, Said
from data_prep.ledger import Ledger, Row
from data_prep.rows import by_source
from data_prep.sources import Source
from data_prep.tables import SCHEMAS, Tables
from data_prep.units import Unit, Workshop, tries
from vidgen_core import digests

__all__ = ["GENERATED", "Captioned", "caption_rows", "caption_spans", "expected", "try_out"]

_FATES = {"failed": "they are asked again by the next run", "blocked": "they stay without one",
          "crashed": "they are asked again once vidgen retry says so"}  # fmt: skip
_SPOKEN_OF = ["clip_id", "source_id", "split", "caption", "caption_origin"]
_ROWS_AT_ONCE = 1 << 14
_LOST = ("failed", "crashed")
_ASSUMED = {"caption": "to come", "origin": "", "model": "", "prompt_digest": "", "status": "ok"}
Span = dict[str, Any]


@dataclass(frozen=True)
class Captioned:
    """What captioning came to.

    Attributes:
        rows: By clip id the rows of `generated_captions` that were wanted, in the order of preference.
        always: Whether clips with a caption beside their video were captioned, too.
        notes: Sentences that the user has to see.

    """

    rows: Mapping[str, Sequence[Row]]
    always: bool = False
    notes: tuple[str, ...] = ()

    def of(self, span: Span) -> list[Row]:
        """The captions of a span as rows of `captions` but for rank and split; at least one, if only an empty one.

        The caption beside the video is the only one where there is one, or behind the generated ones.
        """
        beside = {"caption": span["caption"], "origin": span["caption_origin"], "model": "", "prompt_digest": "",
                  "status": "ok" if span["caption"] else "empty"}  # fmt: skip
        if span["caption"] and not self.always:
            return [beside]
        said = [{name: row[name] for name in beside} for row in self.rows.get(span["clip_id"], ()) if row["caption"]]
        return [*said, beside] if span["caption"] or not said else said

    def awaited(self, span: Span) -> bool:
        """Whether a caption of the span is only assumed."""
        return any(row is _ASSUMED for row in self.rows.get(span["clip_id"], ()))

    def why_silent(self, span: Span) -> str:
        """Of a span without a caption: what its first captioner says about it."""
        for row in self.rows.get(span["clip_id"], ()):
            return f"There is no caption: {row['status']}, {row['message']}"
        return "There is no caption, and nobody was asked for one"

    def attempts(self, span: Span) -> int:
        """How often captioners were asked about a span, over all runs."""
        return sum(row["attempts"] for row in self.rows.get(span["clip_id"], ())) or 1

    def trouble(self, span: Span) -> str:
        """What went wrong with a caption of a span: "failed" or "crashed"; "" where nothing did."""
        return next((row["status"] for row in self.rows.get(span["clip_id"], ()) if row["status"] in _LOST), "")


def try_out(spans: Sequence[Span], new_sources: bool, tables: Tables, settings: CaptionerSettings) -> None:
    """At the start of a run: see that the captioners can be, and that servers answer if they may have to be asked.

    Raises:
        VidgenError: Why they cannot.

    """
    ledger = _ledger(tables)
    for one in settings.all:
        module(one).check(one)
        if module(one).REMOTE and (new_sources or _lacking(spans, tables, ledger, one, settings.always)):
            module(one).open_captioner(one).close()


def _lacking(spans: Sequence[Span], tables: Tables, ledger: Ledger, settings: CaptionerSettings, always: bool) -> bool:
    wanted = _wanted(spans, always)
    have, tried = ledger.rows(), tries(tables, "caption")
    return any(_due(have.get(key), tried) for asks in _keys(wanted, settings).values() for key, _ in asks)


def _due(row: Row | None, tried: Mapping[str, int]) -> bool:
    """Whether to ask for a caption: nobody did, it failed, or its source crashed and is asked to be tried again."""
    if row is None or row["status"] == "failed":
        return True
    return row["status"] == "crashed" and tried.get(row["source_id"], 0) >= row["attempts"]


def _wanted(spans: Sequence[Span], always: bool) -> list[Span]:
    return [span for span in spans if always or not span["caption"]]


def caption_spans(
    spans: Sequence[Span], sources: Mapping[str, Source], shop: Workshop, settings: CaptionerSettings
) -> Captioned:
    """Caption the spans that want it and have no caption of these captioners yet.

    Raises:
        VidgenError: A captioner cannot be opened, its server takes no more requests, or there is an alarm.

    """
    wanted = _wanted(spans, settings.always)
    rows: dict[str, list[Row]] = {}
    notes: list[str] = []
    ledgers = _ledger(shop.tables), checks(shop.tables)
    for one in settings.all:
        told, alarms = _by_one(wanted, sources, shop, one, ledgers)
        notes += alarms
        for row in told:
            rows.setdefault(row["clip_id"], []).append(row)
    present = set(shop.tables.read("sources", ["source_id"])["source_id"].to_pylist())
    for ledger in ledgers:
        ledger.settle(lambda row: row["source_id"] in present)
    return Captioned(rows, settings.always, tuple(notes))


def expected(spans: Sequence[Span], tables: Tables, settings: CaptionerSettings) -> tuple[Captioned, int, int]:
    """What captioning would come to if every answer is one; how many it would ask for, and how many it has."""
    have, tried = _ledger(tables).rows(), tries(tables, "caption")
    rows: dict[str, list[Row]] = {}
    lacking = there = 0
    for one in settings.all:
        for clip_id, asks in _keys(_wanted(spans, settings.always), one).items():
            for key, _ in asks:
                done = not _due(have.get(key), tried)
                lacking, there = lacking + (not done), there + done
                rows.setdefault(clip_id, []).append(have[key] if done else _ASSUMED)
    return Captioned(rows, settings.always), lacking, there


def caption_rows(spans: pa.Table, said: Captioned) -> pa.Table:
    """Rows of `captions` for spans that have a side of the split; rank 0 is the first choice."""
    pieces = [SCHEMAS["captions"].empty_table()]
    for batch in spans.select(_SPOKEN_OF).to_batches(max_chunksize=_ROWS_AT_ONCE):
        rows = [
            row | {"clip_id": span["clip_id"], "source_id": span["source_id"], "split": span["split"], "rank": rank}
            for span in batch.to_pylist()
            for rank, row in enumerate(said.of(span))
        ]
        pieces.append(pa.Table.from_pylist(rows, SCHEMAS["captions"]))
    return pa.concat_tables(pieces)


def _by_one(
    spans: Sequence[Span], sources: Mapping[str, Source], shop: Workshop, settings: CaptionerSettings,
    ledgers: tuple[Ledger, Ledger],
) -> tuple[list[Row], list[str]]:  # fmt: skip
    """One captioner's rows for these spans, and what the user has to see; the ledgers are of captions and of checks."""
    (ledger, made), keys = ledgers, _keys(spans, settings)
    have, tried = ledger.rows(), tries(shop.tables, "caption")
    units = _units(spans, keys, lambda key: _due(have.get(key), tried), sources)
    total = sum(map(len, keys.values()))
    done = total - sum(len(span["asks"]) for unit in units for span in unit.spans)
    named = {"origin": settings.name, "batch": digests.of_value([unit.key for unit in units], 12)}
    work = Work(partial(_describe, named=named), partial(_not_seen, named=named))
    watch = Watch(settings)
    try:
        with closing(over_clips(units, work, shop, settings)) as answers:
            for rows in answers:
                for row in rows:
                    row["attempts"] += have[row["key"]]["attempts"] if row["key"] in have else 0
                ledger.add(rows)
                watch.see(rows)
                done += len(rows)
                shop.progress(done, total)
    finally:
        ledger.flush()
    have = ledger.rows()
    told = [have[key] for asks in keys.values() for key, _ in asks]
    return told, [*_failures(told, settings), *ring(told, spans, sources, shop, settings, made)]


def _keys(spans: Sequence[Span], settings: CaptionerSettings) -> dict[str, list[tuple[str, str]]]:
    """By clip id the captions to be had: their keys and prompts."""
    made = module(settings)
    made_by = [settings.name, made.digest(settings), stills.VERSION, settings.frames or made.FRAMES, settings.side_px]
    prompts = [prompt or made.PROMPT for prompt in settings.prompts]
    return {
        span["clip_id"]: [
            (digests.of_value([made_by, prompt, span["clip_id"], [span[name] for name in PLACE]], 24), prompt)
            for prompt in prompts
        ]
        for span in spans
    }


def _units(
    spans: Sequence[Span],
    keys: Mapping[str, Sequence[tuple[str, str]]],
    due: Callable[[str], bool],
    sources: Mapping[str, Source],
) -> list[Unit]:
    """By source the spans that lack a caption, each with its `asks`."""
    units = []
    for source_id, some in by_source(spans).items():
        lacking = []
        for span in some:
            asks = [ask for ask in keys[span["clip_id"]] if due(ask[0])]
            if asks:
                lacking.append({name: span[name] for name in ("clip_id", "source_id", *PLACE)} | {"asks": asks})
        if lacking:
            key = digests.of_value([span["asks"] for span in lacking], 32)
            units.append(Unit(key, sources[source_id], tuple(lacking)))
    return units


def _describe(captioner: Captioner, clips: Sequence[Seen], *, named: Mapping[str, str]) -> list[Row]:
    """Rows for all that is asked of some clips."""
    asked = [(span, Asked(key, pictures, prompt)) for span, pictures in clips for key, prompt in span["asks"]]
    answers = captioner.caption([one for _, one in asked])
    return [_row(span, one.key, one.prompt, said, named) for (span, one), said in zip(asked, answers, strict=True)]


def _not_seen(span: Span, said: Said, *, named: Mapping[str, str]) -> list[Row]:
    return [_row(span, key, prompt, said, named) for key, prompt in span["asks"]]


def _row(span: Span, key: str, prompt: str, said: Said, named: Mapping[str, str]) -> Row:
    return {**named, "clip_id": span["clip_id"], "source_id": span["source_id"], "key": key, "caption": said.text,
            "model": said.model, "prompt_digest": digests.of_value(prompt), "status": said.status,
            "message": said.message, "attempts": said.attempts, "echoed": said.echoed,
            "wrong_ids": said.wrong_ids}  # fmt: skip


def _failures(told: Sequence[Row], settings: CaptionerSettings) -> list[str]:
    notes = []
    for status, fate in _FATES.items():
        some = [row for row in told if row["status"] == status]
        if some:
            first = f"clip {some[0]['clip_id']}: {some[0]['message']}"
            notes.append(f"{len(some)} captions of {settings.name} {status}, and {fate}. The first, {first}")
    return notes


def _ledger(tables: Tables) -> Ledger:
    return Ledger(tables, GENERATED, lambda row: (row["status"] not in _LOST, row["attempts"]))
