"""The one decode pass of a source: what it is, its shots, and every candidate span with its scores."""

from bisect import bisect_left
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

from data_prep.captions import Sidecar, read_sidecar
from data_prep.decode import Opened, Undecodable, open_source
from data_prep.duplicates.fingerprint import Fingerprint, Fingerprinter
from data_prep.placing import Lit, clip_id, clip_places, sample_times
from data_prep.settings import DataSettings
from data_prep.shots import ShotFinder
from data_prep.sources import Source
from data_prep.spool import Spool
from data_prep.stages import black_bars
from data_prep.view import SpanView, picture, thumb
from vidgen_core import discovery

__all__ = ["ROUNDING_S", "Analysis", "analyze", "nearest"]

ROUNDING_S = 2e-3  # times of frames may be rounded to ticks of a millisecond
_STAGES = "data_prep.stages"


@dataclass(frozen=True)
class Analysis:
    """Rows for `sources`, `spans` and `fingerprints`."""

    source: dict[str, Any]
    spans: list[dict[str, Any]]
    fingerprint: dict[str, Any]


@dataclass(frozen=True)
class _Measures:
    """What a stage measured, in the order of the frames, and their numbers."""

    places: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def within(self, start: int, stop: int) -> tuple[Any, ...]:
        """The measures of frames [start, stop), or that of the frame nearest to the first when there is none."""
        low, high = bisect_left(self.places, start), bisect_left(self.places, stop)
        if low < high:
            return tuple(self.values[low:high])
        nearest = min(range(max(0, low - 1), min(len(self.places), low + 1)), key=lambda k: abs(self.places[k] - start))
        return (self.values[nearest],)


@dataclass(frozen=True)
class _Pass:
    """A source after its pass: times in seconds from the first frame, thumbnails, and what stages measured."""

    pts: NDArray[np.int64]
    times_s: NDArray[np.float64]
    thumbs: Spool
    measures: dict[str, "_Measures"]
    height: int
    width: int
    fingerprint: Fingerprint


def analyze(source: Source, settings: DataSettings, beside: Sidecar | None = None) -> Analysis:
    """Decode a source once.

    Args:
        source: The file.
        settings: Which shots and clips are wanted.
        beside: The captions that lie beside it; None where they have not been read yet.

    Raises:
        Undecodable: Not one picture comes out of it.

    """
    opened = open_source(source.file)
    with opened.container, closing(Spool()) as thumbs:
        finder = ShotFinder(settings.shots)
        seen = _watch(opened, finder, thumbs)
        shots = finder.finish().spans
        sidecar = beside or read_sidecar(source.file)
        shapes = settings.each_shape()
        spans = [
            _span_row(source, opened, seen, start, made, sidecar) | _shot(seen, number, first, stop)
            for number, (first, stop) in enumerate(shots)
            for start, made in clip_places(seen.times_s, first, stop, _lit(opened, seen, first, stop), shapes)
        ]
        fingerprint = {"source_id": source.source_id, "picture_share": seen.fingerprint.picture_share,
                       "samples": seen.fingerprint.to_bytes()}  # fmt: skip
        return Analysis(_source_row(source, opened, seen, len(shots)), spans, fingerprint)


def _watch(opened: Opened, finder: ShotFinder, thumbs: Spool) -> _Pass:
    pts: list[int] = []
    measuring, fingerprinter = _Measuring(), Fingerprinter()
    ticks_s, parts = opened.time_base.as_integer_ratio()
    for now, frame in opened.frames():
        time_s = (now - (opened.first_pts or 0)) * ticks_s / parts
        measuring.look(frame, len(pts), time_s, opened.rotation)
        pts.append(now)
        small = thumb(frame)
        thumbs.append(small)
        finder.push(small[None])
        fingerprinter.look(frame, time_s, opened.rotation)
    if not pts:
        raise Undecodable("no_picture_decoded", f"Its {opened.stream.codec_context.name} stream decodes to no picture")
    ticks = np.array(pts, np.int64)
    times_s = (ticks - ticks[0]) * float(opened.time_base)
    return _Pass(ticks, times_s, thumbs, measuring.taken, *measuring.size, fingerprinter.result())


@cache
def _stages() -> dict[str, ModuleType]:
    return {name: discovery.load(_STAGES, name) for name in discovery.names(_STAGES)}


class _Measuring:
    """Lets each stage measure full-size pictures as often as it asks; pictures of another size are passed over."""

    def __init__(self) -> None:
        self._stages = {name: stage for name, stage in _stages().items() if "measure" in vars(stage)}
        self._due_s = dict.fromkeys(self._stages, 0.0)
        self.taken = {name: _Measures() for name in self._stages}
        self.size = (0, 0)

    def look(self, frame: VideoFrame, number: int, time_s: float, rotation: int) -> None:
        due = [name for name, at_s in self._due_s.items() if time_s >= at_s]
        size = (frame.width, frame.height) if rotation % 180 else (frame.height, frame.width)
        if number == 0:
            self.size = size
        if not due or size != self.size:
            return
        seen = picture(frame, rotation)
        for name in due:
            self.taken[name].places.append(number)
            self.taken[name].values.append(self._stages[name].measure(seen))
            self._due_s[name] = time_s + self._stages[name].EVERY_S


def _lit(opened: Opened, seen: _Pass, first: int, stop: int) -> Lit:
    """What is seen of the pictures of a shot."""
    measured = seen.measures["black_bars"].within(first, stop)
    _, _, width, height = black_bars.crop(measured, seen.height, seen.width)
    return Lit(width * opened.upright_sar, Fraction(height))


def _shot(seen: _Pass, number: int, first: int, stop: int) -> dict[str, Any]:
    """The shot [first, stop) that a span is in, by the times of its first and last frame."""
    return {"shot": number, "shot_start_pts": int(seen.pts[first]), "shot_stop_pts": int(seen.pts[stop - 1])}


def _span_row(  # noqa: PLR0913, PLR0917 - a row is made of all these
    source: Source, opened: Opened, seen: _Pass, start: int, settings: DataSettings, sidecar: Sidecar
) -> dict[str, Any]:
    wanted_s = seen.times_s[start] + sample_times(settings)
    taken = nearest(seen.times_s, wanted_s)
    stop = int(taken[-1]) + 1
    view = SpanView(
        seen.thumbs[start:stop], seen.times_s[start:stop],
        {name: measures.within(start, stop) for name, measures in seen.measures.items()},
        seen.height, seen.width, opened.rotation,
    )  # fmt: skip
    start_s, stop_s = float(seen.times_s[start]), float(seen.times_s[stop - 1])
    start_pts, stop_pts = int(seen.pts[start]), int(seen.pts[stop - 1])
    row: dict[str, Any] = {
        "clip_id": clip_id(source.source_id, start_pts, stop_pts, settings),
        "source_id": source.source_id,
        "uri": source.uri,
        "start_s": start_s,
        "stop_s": stop_s,
        "start_pts": start_pts,
        "stop_pts": stop_pts,
        "time_base": str(opened.time_base),
        "distinct_frames": len(set(taken.tolist())),
        "caption": sidecar.caption(start_s, stop_s),
        "caption_origin": sidecar.origin,
    }
    for stage in _stages().values():
        row |= stage.score(view)
    return row


def nearest(times_s: NDArray[np.float64], wanted_s: NDArray[np.float64]) -> NDArray[np.intp]:
    """Index of the frame on show at each wanted time: the last that began by then (times may be rounded)."""
    return np.searchsorted(times_s, wanted_s + ROUNDING_S, side="right").clip(1, len(times_s)) - 1


def _source_row(source: Source, opened: Opened, seen: _Pass, shots: int) -> dict[str, Any]:
    steps = np.diff(seen.pts)
    typical = float(np.median(steps)) if len(steps) else 0.0
    spread_s = float(np.ptp(steps) * opened.time_base) if len(steps) else 0.0
    codec = opened.stream.codec_context
    return {
        "source_id": source.source_id,
        "uri": source.uri,
        "bytes": source.file.stat().st_size,
        "container": opened.container.format.name,
        "codec": codec.name,
        "pix_fmt": codec.pix_fmt,
        "width": seen.width,
        "height": seen.height,
        "rotation": opened.rotation,
        "sar": str(opened.sar),
        "time_base": str(opened.time_base),
        "frame_rate": str(opened.stream.average_rate or ""),
        "variable_rate": bool(spread_s > max(2e-3, 0.2 * typical * float(opened.time_base))),
        "frames": len(seen.pts),
        "duration_s": float(seen.times_s[-1]) + typical * float(opened.time_base),
        "bad_packets": opened.bad_packets,
        "decoded_frames": opened.decoded,
        "shots": shots,
    }
