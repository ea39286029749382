"""Captions for spans that have none, from the frame in the middle of each span, as Open-Sora and others caption images.

The frame is taken from the source at full size, upright and without bars, since a clip of the recipe's size may be far
too small to recognize anything in. A result is keyed by the span, the model, its weights and its settings.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data_prep.decode import as_bytes, open_source, upright
from data_prep.settings import CaptionerSettings
from data_prep.sources import Source
from data_prep.tables import Part, Tables
from data_prep.units import Unit, Workshop, write
from vidgen_core import digests, discovery

__all__ = ["GENERATED", "Captioner", "by_source", "caption_spans"]

GENERATED = "generated_captions"
_VERSION = 1


class Captioner(Protocol):
    """What `open_captioner(settings)` of a file in `data_prep/captioners` gives; `digest(settings)` opens nothing."""

    def caption(self, pictures: Sequence[NDArray[np.uint8]]) -> list[str]:
        """One caption for each picture [H, W, 3]; "" where it has nothing to say."""
        ...


def caption_spans(
    spans: Sequence[dict[str, Any]], sources: Mapping[str, Source], shop: Workshop, settings: CaptionerSettings
) -> dict[str, dict[str, str]]:
    """Caption and origin of each span by its clip id; a source that fails leaves its spans out.

    Raises:
        VidgenError: There is no such captioner, or its weights cannot be opened.

    """
    made_by = [discovery.load("data_prep.captioners", settings.name).digest(settings), _VERSION]
    units = []
    for source_id, some in by_source(spans).items():
        key = digests.of_value([made_by, [(span["clip_id"], *_box(span)) for span in some]], 32)
        units.append(Unit(key, sources[source_id], tuple(some)))
    shop.run(units, partial(_caption_unit, tables=shop.tables, settings=settings), (GENERATED,))
    return {
        row["clip_id"]: {"caption": row["caption"], "caption_origin": row["origin"]}
        for row in shop.tables.read(GENERATED).to_pylist()
    }


def by_source(spans: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Spans grouped by their source's id, both in order."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for span in sorted(spans, key=lambda span: (span["source_id"], span["clip_id"])):
        grouped.setdefault(span["source_id"], []).append(span)
    return grouped


def _caption_unit(unit: Unit, *, tables: Tables, settings: CaptionerSettings) -> dict[str, Part]:
    stills = list(_stills(unit.source.file, unit.spans))
    captions = _opened(settings).caption([picture for _, picture in stills])
    rows = [
        {"clip_id": span["clip_id"], "source_id": span["source_id"], "caption": caption, "origin": settings.name,
         "status": "ok" if caption else "empty"}
        for (span, _), caption in zip(stills, captions, strict=True)
    ]  # fmt: skip
    return {GENERATED: write(tables, GENERATED, unit.key, rows)}


@lru_cache(maxsize=1)
def _opened(settings: CaptionerSettings) -> Captioner:
    """Weights are read once in a process."""
    captioner: Captioner = discovery.load("data_prep.captioners", settings.name).open_captioner(settings)
    return captioner


def _stills(file: Path, spans: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], NDArray[np.uint8]]]:
    """Each span with the picture in its middle, in one sequential pass."""
    waiting = sorted(spans, key=lambda span: _middle(span))
    opened = open_source(file)
    with opened.container:
        for pts, frame in opened.frames():
            while waiting and pts >= _middle(waiting[0]):
                span = waiting.pop(0)
                x, y, width, height = _box(span)
                picture = upright(as_bytes(frame, "rgb24"), opened.rotation)[y : y + height, x : x + width]
                yield span, np.ascontiguousarray(picture)
            if not waiting:
                return


def _middle(span: Mapping[str, Any]) -> int:
    return int(span["start_pts"] + span["stop_pts"]) // 2


def _box(span: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(span[f"crop_{part}"]) for part in "xywh")
