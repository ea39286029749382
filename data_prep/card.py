"""The data card: one HTML page that says what the data is, what was dropped and why, and shows clips at each line."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jinja2 import ChoiceLoader, Environment, PackageLoader
from numpy.typing import NDArray

from data_prep.clips import pictures
from data_prep.cutting import shapes_of_clips
from data_prep.decode import Undecodable
from data_prep.fetching import at_hand
from data_prep.prepare import DATA_TABLES, candidates
from data_prep.rights import licenses_of
from data_prep.select import Select
from data_prep.settings import DataSettings
from data_prep.tables import Tables
from data_prep.what_if import Study, studies
from vidgen_core.clip import decode_clips, parse_rate
from vidgen_core.errors import VidgenError
from vidgen_core.evaluation import wording
from vidgen_core.evaluation.figures import aligned, funnel, number, percent, rejects
from vidgen_core.evaluation.pictures import Picture, picture
from vidgen_core.licenses import UNKNOWN

__all__ = ["card"]

_WIDTH, _HIGH, _LOW, _LEFT, _RIGHT = 460, 96, 96, 52, 8
_GAP = 14  # between the histogram and the curve


@dataclass(frozen=True)
class _Shown:
    """A clip at a line: its score, its caption, and its picture where there is one."""

    clip_id: str
    score: str
    words: str
    picture: Picture | None


def card(tables: Tables, settings: DataSettings, videos: Path | str | None, facts: Mapping[str, str]) -> str:
    """The page as text; it refers to nothing outside itself and needs no script.

    Args:
        tables: The data.
        settings: The thresholds drawn; those of the latest run, or others to be tried.
        videos: Where the sources are, from which dropped clips are drawn; without it they have no pictures.
        facts: More to tell of where the data comes from.

    Raises:
        VidgenError: Nothing was prepared yet.

    """
    spans, select = candidates(tables, settings)
    if not len(spans):
        raise VidgenError("There are no spans to tell of", move="Run vidgen prepare first")
    found = studies(spans, select)
    shown = _pictures(tables, spans, found, settings, videos)
    counts = _counts(tables)
    loader = ChoiceLoader([PackageLoader("data_prep", "."), PackageLoader("vidgen_core.evaluation", ".")])
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"aligned": aligned, "percent": percent}
    reasons = Counter(tables.read("rejects", ["reason"])["reason"].to_pylist())
    return environment.get_template("card.html.j2").render(
        tiles=_tiles(tables, counts, settings),
        funnel=funnel(list(counts.items())),
        rejects=rejects(reasons),
        lines=[_line(study, spans, shown) for study in found],
        unmeasured=_unmeasured(select, found),
        splits=_shares(tables.read("captions", ["split"])["split"].to_pylist()),
        origins=_shares(tables.read("captions", ["origin"])["origin"].to_pylist()),
        licenses=_shares(_licenses(tables)),
        facts={**facts, "data release": tables.release(DATA_TABLES).digest},
        settings=settings.model_dump_json(indent=2),
        have_videos=videos is not None,
    )


def _counts(tables: Tables) -> dict[str, int]:
    levels = Counter(tables.read("rejects", ["level"])["level"].to_pylist())
    sources = len(tables.read("sources", ["source_id"]))
    return {
        "files": sources + levels["source"],
        "sources committed": sources,
        "sources rejected": levels["source"],
        "spans": len(tables.read("spans", ["clip_id"])),
        "spans dropped": levels["span"],
        "clips": len(tables.read("captions", ["clip_id"])),
    }


def _tiles(tables: Tables, counts: Mapping[str, int], settings: DataSettings) -> list[dict[str, str]]:
    shapes = shapes_of_clips(tables)
    frames = sum(shape[0] * count for shape, count in shapes.items())
    durations = [value or 0.0 for value in tables.read("sources", ["duration_s"])["duration_s"].to_pylist()]
    kept_s, all_s = float(frames / parse_rate(settings.frame_rate)), sum(durations)
    kept = counts["clips"] / counts["spans"] if counts["spans"] else None
    size = " or ".join(
        f"{length} frames of {width} \N{MULTIPLICATION SIGN} {height} pixels"
        for length, height, width in sorted(shapes) or [(settings.frames, settings.height, settings.width)]
    )
    return [
        {"name": "clips", "value": f"{counts['clips']:,}", "note": f"{size}, {settings.frame_rate} a second"},
        {"name": "of the candidate clips kept", "value": percent(kept), "note": f"{counts['spans']:,} candidates"},
        {"name": "of clips", "value": _duration(kept_s), "note": f"from {_duration(all_s)} of video"},
        {"name": "sources", "value": f"{counts['sources committed']:,}",
         "note": f"{counts['sources rejected']:,} files could not be used"},
    ]  # fmt: skip


def _duration(seconds: float) -> str:
    for unit, least in (("h", 3600.0), ("min", 60.0)):
        if seconds >= least:
            return f"{seconds / least:,.1f}\N{NO-BREAK SPACE}{unit}"
    return f"{seconds:.0f}\N{NO-BREAK SPACE}s"


def _shares(values: Sequence[str]) -> list[tuple[str, str, str]]:
    counted = Counter(values).most_common()
    return [(name, f"{count:,}", percent(count / len(values))) for name, count in counted]


def _unmeasured(select: Select, found: Sequence[Study]) -> list[str]:
    """Rules that are on although no span has their score: they drop everything."""
    drawn = {study.rule.name for study in found}
    return [name for name, value in select if name.startswith(("min_", "max_")) and value is not None
            and name not in drawn]  # fmt: skip


def _licenses(tables: Tables) -> list[str]:
    """The license of each clip's source."""
    clips = tables.read("captions", ["clip_id", "source_id"]).to_pylist()
    known = licenses_of(tables)
    return [known.get(source_id, UNKNOWN) for source_id in {row["clip_id"]: row["source_id"] for row in clips}.values()]


def _line(study: Study, spans: pa.Table, shown: Mapping[str, Picture]) -> dict[str, Any]:
    """A rule as the template draws it."""
    title, meaning = wording.SCORES.get(study.rule.score, (wording.named(study.rule.score), ""))
    low, high = float(study.edges[0]), float(study.edges[-1])

    def across(value: float) -> float:
        return round(_LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)

    most, best = int(study.counts.max()) or 1, int(study.kept.max()) or 1
    foot = _HIGH + _GAP + _LOW
    bars = [
        (across(left), round(_HIGH * (1 - count / most), 1), round(_HIGH * count / most, 1))
        for left, count in zip(study.edges[:-1].tolist(), study.counts.tolist(), strict=True)
    ]
    points = zip(study.tries.tolist(), study.kept.tolist(), strict=True)
    curve = " ".join(f"{across(at)},{foot - _LOW * kept / best:.1f}" for at, kept in points)
    side = "at least" if study.rule.at_least else "at most"
    return {
        "rule": study.rule.name,
        "title": title,
        "meaning": meaning,
        "asks": "off" if study.threshold is None else f"{side} {number(study.threshold)}",
        "alone": f"{study.alone:,}",
        "missing": f"{study.missing:,}" if study.missing else "",
        "bars": bars,
        "bar_width": round((_WIDTH - _LEFT - _RIGHT) / len(bars) - 0.6, 2),
        "curve": curve,
        "mark": None if study.threshold is None else across(study.threshold),
        "ticks": [(across(value), f"{value:.3g}") for value in np.linspace(low, high, 5).tolist()],
        "most": f"{most:,}",
        "best": f"{best:,}",
        "now": f"{study.now:,}",
        "sides": [_side(places, study, spans, shown) for places in (study.above, study.below)],
        "width": _WIDTH, "left": _LEFT, "right": _WIDTH - _RIGHT, "high": _HIGH, "foot": foot, "gap": _GAP,
    }  # fmt: skip


def _side(places: Sequence[int], study: Study, spans: pa.Table, shown: Mapping[str, Picture]) -> list[_Shown]:
    rows = spans.select(["clip_id", "caption", study.rule.score]).take(pa.array(places, pa.int64())).to_pylist()
    return [
        _Shown(row["clip_id"], number(row[study.rule.score]), row["caption"] or "", shown.get(row["clip_id"]))
        for row in rows
    ]


def _pictures(
    tables: Tables, spans: pa.Table, found: Sequence[Study], settings: DataSettings, videos: Path | str | None
) -> dict[str, Picture]:
    """Clip -> its picture: from the tables where it was kept, from its source where that is there."""
    places = sorted({place for study in found for place in (*study.above, *study.below)})
    rows = {row["clip_id"]: row for row in spans.take(pa.array(places, pa.int64())).to_pylist()}
    there = _media(tables, list(rows))
    shown = {key: picture(decode_clips([media])[0], settings.frame_rate) for key, media in there.items()}
    by_file: dict[str, list[dict[str, Any]]] = {}
    for row in rows.values():
        if row["clip_id"] not in there:
            by_file.setdefault(row["uri"], []).append(row)
    for uri, some in by_file.items() if videos is not None else ():
        for row, frames in _from_source(videos or "", uri, some, settings, tables):
            shown[row["clip_id"]] = picture(frames, settings.frame_rate)
    return shown


def _media(tables: Tables, clips: Sequence[str]) -> dict[str, bytes]:
    if not clips or not tables.files("clips"):
        return {}
    listed = ", ".join(f"'{clip}'" for clip in clips)
    rows = tables.query(f"SELECT clip_id, media FROM clips WHERE clip_id IN ({listed})")
    return dict(zip(rows["clip_id"].to_pylist(), rows["media"].to_pylist(), strict=True))


def _from_source(
    videos: Path | str, uri: str, spans: Sequence[dict[str, Any]], settings: DataSettings, tables: Tables
) -> list[tuple[dict[str, Any], NDArray[np.uint8]]]:
    """Pictures of spans from their source; none where it is gone or cannot be read any more."""
    try:
        with at_hand(videos, uri, tables) as file:
            return list(pictures(file, sorted(spans, key=lambda span: span["start_pts"]), settings))
    except (Undecodable, OSError) as error:
        logging.getLogger(__name__).warning("No pictures of %s: %s", uri, error)
        return []
