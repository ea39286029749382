"""Clips for the spans that were kept: what is new is encoded, what is there already is used again.

A source's clips are one unit, keyed by which they are and how they are made. When the choice changes, the new unit
takes over the rows of the old one whose media would come out the same, and both change places in one transaction.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.bounds import bounded_memory, costs_itself
from data_prep.clips import ENCODING_VERSION, cut
from data_prep.needs import needs
from data_prep.rows import grouped
from data_prep.settings import DataSettings
from data_prep.sources import Source
from data_prep.sql import ask
from data_prep.tables import Part, Tables
from data_prep.units import FAILURES, Unit, Workshop, write
from vidgen_core import digests

__all__ = ["cut_all", "older", "reusable", "with_media_keys"]

_WORKED_ON = ["source_id", "start_pts", "stop_pts", "clip_id", "crop_x", "crop_y", "crop_w", "crop_h", "split",
              "media_key"]  # fmt: skip
_ROWS_AT_ONCE = 64


def with_media_keys(spans: pa.Table) -> pa.Table:
    """Spans with `media_key`: two of one clip id are equal where the encoded media would be equal."""
    codes = np.zeros(len(spans), np.int64)
    crops = [spans[f"crop_{part}"].to_numpy() for part in "whxy"]
    # A million spans have few crops: each is spelled once.
    for crop in crops:
        seen = pc.dictionary_encode(pa.array(crop))
        both = pc.dictionary_encode(pa.array(codes * len(seen.dictionary) + seen.indices.to_numpy()))
        codes = both.indices.to_numpy().astype(np.int64)
    places = np.unique(codes, return_index=True)[1]
    each = zip(*(crop[places].tolist() for crop in crops), strict=True)
    spelled = pa.array([f"{width}x{height}+{x}+{y}/{ENCODING_VERSION}" for width, height, x, y in each], pa.string())
    return spans.append_column("media_key", spelled.take(pa.array(codes)))


def cut_all(
    kept: pa.Table, sources: Mapping[str, Source], shop: Workshop, settings: DataSettings, tries: Mapping[str, int]
) -> None:
    """Rows of `clips` for every kept span, and of no other.

    Args:
        kept: Spans with their media keys.
        sources: By their ids.
        shop: Who does it.
        settings: Shape and rate of the clips.
        tries: Source -> how often its clips were tried in vain.

    """
    each = "concat_ws(':', clip_id, split, media_key)"
    chosen = f"left(sha256(string_agg({each}, ' ' ORDER BY clip_id)), 32)"
    keyed = ask(f"SELECT source_id, {chosen} AS key FROM kept GROUP BY 1 ORDER BY 1", kept=kept)
    keys = dict(zip(keyed["source_id"].to_pylist(), keyed["key"].to_pylist(), strict=True))
    keys |= {source: digests.of_value([keys[source], count], 32) for source, count in tries.items() if source in keys}
    have = shop.tables.committed("clips")
    missing = [source for source, key in keys.items() if key not in have]
    old = older(shop.tables, "clips", have - set(keys.values())) if missing else {}
    chosen = kept.filter(pc.is_in(kept["source_id"], pa.array(missing, pa.string())))
    spans = grouped(chosen.select(_WORKED_ON), "source_id", "start_pts")
    units = [
        Unit(key, sources[source], spans.get(source, ()), tries=tries.get(source, 0), replaces=old.get(source, ()))
        for source, key in keys.items()
    ]
    work = partial(_cut_unit, tables=shop.tables, settings=settings)
    shop.run(units, work, (FAILURES + "cut", "clips"), rest=partial(_taken_over, tables=shop.tables))


def reusable(unit: Unit, tables: Tables, columns: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Rows by clip id of the units that this one replaces, as far as it wants the very same media."""
    wanted = {span["clip_id"]: span["media_key"] for span in unit.spans}
    found: dict[str, dict[str, Any]] = {}
    for key in unit.replaces:
        with tables.opened(tables.part_file("clips", key)) as file:
            if "media_key" in file.schema_arrow.names:
                rows = file.read(columns=columns).to_pylist()
                found |= {row["clip_id"]: row for row in rows if wanted.get(row["clip_id"]) == row["media_key"]}
    return found


@needs(memory_gib=1.5)
@costs_itself
def _cut_unit(unit: Unit, *, tables: Tables, settings: DataSettings) -> dict[str, Part]:
    with bounded_memory():
        return {"clips": write(tables, "clips", unit.key, _rows(unit, tables, settings))}


def _rows(unit: Unit, tables: Tables, settings: DataSettings) -> Iterator[dict[str, Any]]:
    """The unit's rows in the order of its spans, one at a time: a long source has more media than memory."""
    there = reusable(unit, tables, ["clip_id", "media_key"])
    spans = {span["clip_id"]: span for span in unit.spans}
    places = {clip_id: place for place, clip_id in enumerate(spans)}
    new = [span for span in unit.spans if span["clip_id"] not in there]
    made = (_named(row, spans) for row in cut(unit.source.file, new, settings)) if new else iter(())
    yield from heapq.merge(_taken_over(unit, tables=tables), made, key=lambda row: places[row["clip_id"]])


def _taken_over(unit: Unit, *, tables: Tables) -> Iterator[dict[str, Any]]:
    """Rows out of the units that this one replaces, as far as it wants the very same media."""
    clips = set(reusable(unit, tables, ["clip_id", "media_key"]))
    spans = {span["clip_id"]: span for span in unit.spans}
    for key in unit.replaces:
        with tables.opened(tables.part_file("clips", key)) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE) if "media_key" in file.schema_arrow.names else ():
                for row in batch.to_pylist():
                    if row["clip_id"] in clips:
                        clips.remove(row["clip_id"])
                        yield _named(row, spans)


def _named(row: dict[str, Any], spans: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return row | {name: spans[row["clip_id"]][name] for name in ("clip_id", "split", "media_key")}


def older(tables: Tables, name: str, units: set[str]) -> dict[str, tuple[str, ...]]:
    """Source -> which of some units of a table are its own."""
    found: dict[str, tuple[str, ...]] = {}
    for key in sorted(units):
        ids = tables.part(name, key, ["source_id"])["source_id"].to_pylist()
        for source in ids[:1]:
            found[source] = (*found.get(source, ()), key)
    return found
