"""Clips that mean the same: image embeddings of open_clip of each clip's middle picture, and their cosines.

The picture is taken from the source at full size, upright and without bars. Embeddings of a source are one unit, keyed
by its spans, the model and its weights; where the choice of spans changes, those that stay are used again. Radford et
al. 2021, "CLIP" (arXiv:2103.00020).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.bounds import costs_itself
from data_prep.cutting import older
from data_prep.duplicates.groups import Copied, Span
from data_prep.duplicates.matches import Pair
from data_prep.duplicates.settings import SemanticSettings
from data_prep.needs import needs
from data_prep.rows import by_source
from data_prep.sources import Source
from data_prep.stills import box, pictures
from data_prep.tables import Part, Tables
from data_prep.units import FAILURES, Unit, Workshop, key_of_try, made_of, tries, write
from vidgen_core import digests

__all__ = ["EMBEDDINGS", "drop_alike", "embed"]

EMBEDDINGS = "picture_embeddings"
_FILLED = (FAILURES + "embed", EMBEDDINGS)
_VERSION = 2
_ROWS_AT_ONCE = 1024


def embed(
    spans: Sequence[Span], sources: Mapping[str, Source], shop: Workshop, settings: SemanticSettings
) -> dict[str, NDArray[np.float32]]:
    """Unit embedding of each span by its clip id, none without weights; a source that fails leaves its spans out.

    Raises:
        VidgenError: open_clip is not installed, has no such model, or cannot read these weights.

    """
    if not settings.weights and not any(map(shop.tables.exists, _FILLED)):
        return {}
    file = Path(settings.weights)
    made_by = [_VERSION, settings.model, digests.of_file(file) if file.is_file() else settings.weights]
    found, tried, keys = by_source(spans if settings.weights else ()), tries(shop.tables, "embed"), dict[str, str]()
    for source_id, some in found.items():
        key = digests.of_value([made_by, [(span["clip_id"], *box(span)) for span in some]], 32)
        keys[source_id] = key_of_try(key, tried.get(source_id, 0))
    old = older(shop.tables, EMBEDDINGS, shop.tables.committed(EMBEDDINGS) - set(keys.values()))
    units = []
    for source_id, some in found.items():
        made = json.dumps({"made_by": made_by, "boxes": {span["clip_id"]: box(span) for span in some}})
        replaces = old.get(source_id, ())
        units.append(Unit(keys[source_id], sources[source_id], tuple(some), made, tried.get(source_id, 0), replaces))
    work = partial(_embed_unit, tables=shop.tables, settings=settings)
    shop.run(units, work, _FILLED, rest=partial(_reusable, tables=shop.tables))
    rows = shop.tables.read(EMBEDDINGS).to_pylist()
    return {row["clip_id"]: np.frombuffer(row["embedding"], "<f4") for row in rows}


def drop_alike(
    spans: Sequence[Span], embeddings: Mapping[str, NDArray[np.float32]], ranked: Sequence[str], min_cosine: float
) -> tuple[list[Span], list[tuple[Span, Copied]], set[Pair]]:
    """Kept and dropped spans, and the pairs of sources that have clips so alike.

    A span is dropped when one of a better source that is kept has at least this cosine to it. Spans of one source are
    not compared: neighbors in a shot are alike, and training wants them.
    """
    places = {source: place for place, source in enumerate(ranked)}
    known = sorted((span for span in spans if span["clip_id"] in embeddings),
                   key=lambda span: (places[span["source_id"]], span["clip_id"]))  # fmt: skip
    lost: dict[int, Copied] = {}
    pairs: set[Pair] = set()
    for worse, better, cosine in _alike(known, embeddings, min_cosine):
        low, high = sorted((known[worse]["source_id"], known[better]["source_id"]))
        pairs.add((low, high))
        if worse not in lost and better not in lost:
            lost[worse] = Copied(rule="semantic_duplicate", value=cosine, threshold=min_cosine, of=known[better]["uri"])
    dropped = [(known[place], why) for place, why in sorted(lost.items())]
    gone = {span["clip_id"] for span, _ in dropped}
    return [span for span in spans if span["clip_id"] not in gone], dropped, pairs


def _alike(
    known: Sequence[Span], embeddings: Mapping[str, NDArray[np.float32]], min_cosine: float
) -> Iterator[tuple[int, int, float]]:
    """(worse, better, cosine) of spans of two sources, from the best `worse` on; some rows of the product at a time."""
    if not known:
        return
    matrix = np.stack([embeddings[span["clip_id"]] for span in known])
    for start in range(0, len(known), _ROWS_AT_ONCE):
        cosines = matrix[start : start + _ROWS_AT_ONCE] @ matrix[: start + _ROWS_AT_ONCE].T
        for row, better in np.argwhere(cosines >= min_cosine).tolist():
            worse = start + row
            if better < worse and known[better]["source_id"] != known[worse]["source_id"]:
                yield worse, better, float(cosines[row, better])


@needs(memory_gib=3)
@costs_itself
def _embed_unit(unit: Unit, *, tables: Tables, settings: SemanticSettings) -> dict[str, Part]:
    rows = _reusable(unit, tables=tables)
    there = {row["clip_id"] for row in rows}
    if new := [span for span in unit.spans if span["clip_id"] not in there]:
        rows += _embedded(unit, new, settings)
    return {EMBEDDINGS: write(tables, EMBEDDINGS, unit.key, rows, made=unit.made)}


def _reusable(unit: Unit, *, tables: Tables) -> list[dict[str, Any]]:
    """Rows of the units that this one replaces, as far as it wants the same pictures seen by the same model."""
    own, rows = json.loads(unit.made), []
    for key in unit.replaces:
        made = made_of(tables, tables.part_file(EMBEDDINGS, key))
        if made.get("made_by") == own["made_by"]:
            same = {clip_id for clip_id, place in own["boxes"].items() if made["boxes"].get(clip_id) == place}
            rows += [row for row in tables.part(EMBEDDINGS, key).to_pylist() if row["clip_id"] in same]
    return rows


def _embedded(unit: Unit, spans: Sequence[Mapping[str, Any]], settings: SemanticSettings) -> list[dict[str, Any]]:
    from data_prep.clip_models import open_clip_model

    clip = open_clip_model(settings.model, settings.weights)
    rows = []
    for span, (picture,) in pictures(unit.source.file, spans, frames=1):
        vector = clip.pictures([np.asarray(picture.image())])[0]
        unit_vector = (vector / np.linalg.norm(vector)).astype("<f4")
        rows.append({"clip_id": span["clip_id"], "source_id": span["source_id"], "embedding": unit_vector.tobytes()})
    return rows
