"""Clips for the spans that were kept: what is new is encoded, what is there already is used again.

A source's clips are one unit, keyed by which they are and how they are made. When the choice changes, the new unit
takes over the rows of the old one whose media would come out the same, and both change places in one transaction.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_prep.bounds import bounded_memory, costs_itself
from data_prep.clips import ENCODING_VERSION, cut
from data_prep.settings import DataSettings
from data_prep.sources import Source
from data_prep.tables import Part, Tables, ask
from data_prep.units import Unit, Workshop, write
from vidgen_core import digests

__all__ = ["cut_all", "older", "reusable", "with_media_keys"]


def with_media_keys(spans: pa.Table) -> pa.Table:
    """Spans with `media_key`: two of one clip id are equal where the encoded media would be equal."""
    made = f"printf('%dx%d+%d+%d/{ENCODING_VERSION}', crop_w, crop_h, crop_x, crop_y)"
    crops = spans.select([f"crop_{part}" for part in "xywh"])
    return spans.append_column("media_key", ask(f"SELECT {made} AS key FROM spans", spans=crops)["key"])


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
    spans = _by_source(kept, missing)
    units = [
        Unit(key, sources[source], spans.get(source, ()), tries=tries.get(source, 0), replaces=old.get(source, ()))
        for source, key in keys.items()
    ]
    shop.run(units, partial(_cut_unit, tables=shop.tables, settings=settings), ("clips",))


def reusable(unit: Unit, tables: Tables, columns: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Rows by clip id of the units that this one replaces, as far as it wants the very same media."""
    wanted = {span["clip_id"]: span["media_key"] for span in unit.spans}
    found: dict[str, dict[str, Any]] = {}
    for key in unit.replaces:
        with pq.ParquetFile(tables.part_file("clips", key)) as file:
            if "media_key" in file.schema_arrow.names:
                rows = file.read(columns=columns).to_pylist()
                found |= {row["clip_id"]: row for row in rows if wanted.get(row["clip_id"]) == row["media_key"]}
    return found


@costs_itself
def _cut_unit(unit: Unit, *, tables: Tables, settings: DataSettings) -> dict[str, Part]:
    media = reusable(unit, tables)
    new = [span for span in unit.spans if span["clip_id"] not in media]
    with bounded_memory():
        media |= {row["clip_id"]: row for row in (cut(unit.source.file, new, settings) if new else [])}
    named = [{name: span[name] for name in ("clip_id", "split", "media_key")} for span in unit.spans]
    rows = [media[names["clip_id"]] | names for names in named if names["clip_id"] in media]
    return {"clips": write(tables, "clips", unit.key, rows)}


def older(tables: Tables, name: str, units: set[str]) -> dict[str, tuple[str, ...]]:
    """Source -> which of some units of a table are its own."""
    found: dict[str, tuple[str, ...]] = {}
    for key in sorted(units):
        ids = tables.part(name, key, ["source_id"])["source_id"].to_pylist()
        for source in ids[:1]:
            found[source] = (*found.get(source, ()), key)
    return found


def _by_source(kept: pa.Table, sources: list[str]) -> dict[str, tuple[dict[str, Any], ...]]:
    """The spans of some sources, in order."""
    chosen = kept.filter(pc.is_in(kept["source_id"], pa.array(sources, pa.string())))
    grouped: dict[str, tuple[dict[str, Any], ...]] = {}
    for span in sorted(chosen.to_pylist(), key=lambda span: (span["source_id"], span["start_pts"])):
        grouped[span["source_id"]] = (*grouped.get(span["source_id"], ()), span)
    return grouped
