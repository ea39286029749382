"""Sound of clips, kept beside them: exactly as long as the clip, sample by sample at the source's own rate, as FLAC.

FLAC and not Opus or AAC, since those begin with samples that are none and end with a whole packet, Opus knows only one
rate, and what trains on sound decodes it once more anyway. Clips have rows in a table of their own, so that asking for
sound, or no more, encodes no picture and changes no other table.

Sound and pictures of a file share one clock, on which the demuxer has put start offsets and edit lists already. A
sample's place on it is that of its packet; what a packet's rounded time is off by is no gap.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.bounds import bounded_memory, costs_itself
from data_prep.cutting import older
from data_prep.decode import demuxed, open_file
from data_prep.placing import shape_of
from data_prep.rows import grouped
from data_prep.settings import DataSettings
from data_prep.sources import Source
from data_prep.tables import Part, Tables
from data_prep.units import FAILURES, Unit, Workshop, key_of_try, made_of, tries, write
from vidgen_core import digests
from vidgen_core.clip import parse_rate

__all__ = ["AUDIO", "Sound", "keep_audio", "sounds", "to_flac"]

AUDIO = "audio"
_VERSION = 1
_MADE = json.dumps({"version": _VERSION})
# The layouts that FLAC gives 1 to 8 channels; what has more is mixed to two.
_LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")
_BLOCK = 4096
_HEARD = ["clip_id", "source_id", "start_pts", "stop_pts", "time_base"]
Span = Mapping[str, Any]


@dataclass(frozen=True)
class Sound:
    """Samples int16 [channels, samples] at `rate` a second."""

    samples: NDArray[np.int16]
    rate: int


def keep_audio(kept: pa.Table, sources: Mapping[str, Source], shop: Workshop, settings: DataSettings) -> None:
    """Bring `audio` up to date: a row for every kept span where sound is asked for, and no other.

    `audio` of a row is null where the source has no sound during the clip. Rows of clips that stay are used again.
    """
    if settings.audio == "none" and not shop.tables.exists(AUDIO):
        return
    spans = grouped(kept.select(_HEARD), "source_id", "start_pts") if settings.audio == "keep" else {}
    # A clip's id stands for its source, its span and its length.
    keys = {
        source: digests.of_value([_VERSION, [one["clip_id"] for one in some]], 32) for source, some in spans.items()
    }
    tried = tries(shop.tables, "audio")
    keys = {source: key_of_try(key, tried.get(source, 0)) for source, key in keys.items()}
    old = older(shop.tables, AUDIO, shop.tables.committed(AUDIO) - set(keys.values()))
    units = [
        Unit(keys[source], sources[source], some, _MADE, tried.get(source, 0), old.get(source, ()))
        for source, some in spans.items()
    ]
    shop.run(units, partial(_keep_unit, tables=shop.tables, settings=settings), (FAILURES + "audio", AUDIO))


def sounds(file: Path, spans: Sequence[tuple[Span, Fraction]]) -> Iterator[tuple[Span, Sound | None]]:
    """Each span with its sound, so many seconds from its first frame on; None where there is none.

    Spans are in order and do not overlap.

    Where the source's sound begins later, ends earlier or has a gap (also one of packets that do not decode), a clip
    has silence. One pass, which holds no more sound than the spans that a packet lies in.

    Raises:
        Undecodable: The file cannot be opened.

    """
    container = open_file(file)
    with container:
        stream = container.streams.best("audio")
        if not isinstance(stream, av.AudioStream) or stream.codec_context is None:
            yield from ((span, None) for span, _ in spans)
            return
        waiting = [_Waiting(span, length_s) for span, length_s in spans]
        for begins, samples, rate in _pieces(container, stream):
            stop = begins + samples.shape[1]
            while waiting and waiting[0].over(begins, rate):
                yield waiting.pop(0).result()
            for one in waiting:
                if one.start(rate) >= stop:
                    break
                one.take(begins, samples, rate)
            if not waiting:
                return
        yield from (one.result() for one in waiting)


class _Waiting:
    """A span whose sound is coming."""

    def __init__(self, span: Span, length_s: Fraction) -> None:
        self._span, self._length_s = span, length_s
        self._start_s = span["start_pts"] * Fraction(span["time_base"])
        self._sound: Sound | None = None

    def start(self, rate: int) -> int:
        """Number of its first sample on the file's clock."""
        return round(self._start_s * rate)

    def over(self, place: int, rate: int) -> bool:
        """Whether nothing of it comes from this sample on."""
        return place >= self.start(rate) + round(self._length_s * rate)

    def take(self, begins: int, samples: NDArray[np.int16], rate: int) -> None:
        """Take what is its own of some samples; those of another rate or number of channels are passed over."""
        if self._sound is None:
            self._sound = Sound(np.zeros((len(samples), round(self._length_s * rate)), np.int16), rate)
        own = self._sound.samples
        if (self._sound.rate, len(own)) != (rate, len(samples)):
            return
        at = begins - self.start(rate)
        first, stop = max(at, 0), min(at + samples.shape[1], own.shape[1])
        if first < stop:
            own[:, first:stop] = samples[:, first - at : stop - at]

    def result(self) -> tuple[Span, Sound | None]:
        return self._span, self._sound


def _pieces(
    container: av.container.InputContainer, stream: av.AudioStream
) -> Iterator[tuple[int, NDArray[np.int16], int]]:
    """(number of the first sample on the file's clock, samples [channels, n], rate), in order."""
    resampler, form = None, None
    place: int | None = None
    for frame in _frames(container, stream):
        rate, layout = frame.sample_rate, frame.layout.name if frame.layout.nb_channels <= len(_LAYOUTS) else "stereo"
        if form != (rate, frame.layout.name, frame.format.name):
            form = (rate, frame.layout.name, frame.format.name)
            resampler = av.AudioResampler(format="s16p", layout=layout, rate=rate)
        tick_s = frame.time_base or stream.time_base or Fraction(1, rate)
        told = None if frame.pts is None else round(frame.pts * tick_s * rate)
        # Times are rounded to ticks: what is off by two of them goes on where the last piece ended.
        if told is not None and (place is None or abs(told - place) > max(1, round(2 * tick_s * rate))):
            place = told
        place = place or 0
        assert resampler is not None
        frame.pts = None
        for one in resampler.resample(frame):
            samples = np.asarray(one.to_ndarray(), np.int16)
            yield place, samples, rate
            place += samples.shape[1]


def _frames(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """All frames that decode."""
    for packet in demuxed(container, stream):
        try:
            yield from stream.decode(packet)
        except av.error.FFmpegError:
            continue


def to_flac(sound: Sound) -> bytes:
    """Lossless; the bytes are a function of the samples and the rate."""
    out = io.BytesIO()
    with av.open(out, "w", format="flac", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("flac", rate=sound.rate)
        stream.layout, stream.format = _LAYOUTS[len(sound.samples) - 1], "s16"
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for start in range(0, sound.samples.shape[1], _BLOCK):
            part = sound.samples[:, start : start + _BLOCK]
            packed = np.ascontiguousarray(part.T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=stream.layout.name)
            frame.sample_rate, frame.pts = sound.rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


@costs_itself
def _keep_unit(unit: Unit, *, tables: Tables, settings: DataSettings) -> dict[str, Part]:
    there = _reusable(unit, tables)
    shapes, frame_rate = settings.each_shape(), parse_rate(settings.frame_rate)
    new = [(span, shape_of(span, shapes).frames / frame_rate) for span in unit.spans if span["clip_id"] not in there]
    with bounded_memory():
        there |= {span["clip_id"]: _row(span, sound) for span, sound in sounds(unit.source.file, new)}
    rows = [there[span["clip_id"]] for span in unit.spans]
    return {AUDIO: write(tables, AUDIO, unit.key, rows, made=unit.made)}


def _reusable(unit: Unit, tables: Tables) -> dict[str, dict[str, Any]]:
    """Rows by clip id of the units that this one replaces."""
    same = [key for key in unit.replaces if made_of(tables, tables.part_file(AUDIO, key)) == json.loads(_MADE)]
    return {row["clip_id"]: row for key in same for row in tables.part(AUDIO, key).to_pylist()}


def _row(span: Span, sound: Sound | None) -> dict[str, Any]:
    data = None if sound is None else to_flac(sound)
    return {
        "clip_id": span["clip_id"],
        "source_id": span["source_id"],
        "audio": data,
        "audio_sha256": None if data is None else hashlib.sha256(data).hexdigest(),
        "sample_rate": None if sound is None else sound.rate,
        "channels": None if sound is None else len(sound.samples),
        "samples": None if sound is None else sound.samples.shape[1],
    }
