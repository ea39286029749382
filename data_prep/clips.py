"""Kept spans to clips: upright, without bars, square pixels, the recipe's shape and rate, H.264 that decodes fast."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from data_prep.analyze import ROUNDING_S, nearest
from data_prep.decode import Opened, as_bytes, open_packets, open_source, upright
from data_prep.packets import Packets, read_packets
from data_prep.placing import sample_times, shape_of
from data_prep.settings import DataSettings
from vidgen_core.clip import encode

__all__ = ["ENCODING_VERSION", "cut", "fit", "pictures"]

# Of the fitting here and of the encoding in `vidgen_core.clip`.
ENCODING_VERSION = 2
# A picture that is made much smaller is first shrunk by a whole number, to this many times the size or more.
_SHRUNK_TO = 3.0


def cut(file: Path, spans: Sequence[dict[str, Any]], settings: DataSettings) -> Iterator[dict[str, Any]]:
    """Rows for `clips`, one at a time: the media of the spans of one source, in one more pass over it, in its order."""
    ordered = sorted(spans, key=lambda span: span["start_pts"])
    for span, shown in pictures(file, ordered, settings):
        yield _row(span, shown, settings.frame_rate)


def fit(picture: NDArray[np.uint8], span: dict[str, Any], sar: Fraction, settings: DataSettings) -> NDArray[np.uint8]:
    """An upright picture [H, W, 3] cropped to the span's crop and the wanted aspect about its center, then scaled.

    `sar` is the width over height of an upright pixel. The scaler is bicubic with anti-aliasing.
    """
    x, y, width, height = span["crop_x"], span["crop_y"], span["crop_w"], span["crop_h"]
    aspect = settings.width / settings.height / float(sar)  # wanted width over height, in source pixels
    keep_w, keep_h = min(width, height * aspect), min(height, width / aspect)
    left, top = x + (width - keep_w) / 2, y + (height - keep_h) / 2
    image = Image.fromarray(np.ascontiguousarray(picture)).resize(
        (settings.width, settings.height),
        Image.Resampling.BICUBIC,
        box=(left, top, left + keep_w, top + keep_h),
        reducing_gap=_SHRUNK_TO,
    )
    return np.asarray(image)


def pictures(
    file: Path, spans: Sequence[dict[str, Any]], settings: DataSettings
) -> Iterator[tuple[dict[str, Any], NDArray[np.uint8]]]:
    """Each span with its fitted pictures [T, H, W, 3] in its own shape; spans are in order and do not overlap.

    What the packets of the source tell is used to decode only what the pictures need. Where that fails, the spans that
    are left are taken from a pass over all frames: the pictures are the same.
    """
    shapes, done = settings.each_shape(), 0
    made = [(span, shape_of(span, shapes)) for span in spans]
    for found in _picked(file, made):
        yield found
        done += 1
    if done < len(spans):
        yield from _in_order(file, made[done:])


def _picked(
    file: Path, spans: Sequence[tuple[dict[str, Any], DataSettings]]
) -> Iterator[tuple[dict[str, Any], NDArray[np.uint8]]]:
    """The spans up to the first whose frames are not all there, at the times that the packets tell."""
    with (opened := open_packets(file)).container:
        packets = read_packets(opened)
        wanted: list[NDArray[np.int64]] = []
        for span, made in spans if packets.whole else ():
            times = _wanted(packets, span, opened.time_base, made)
            if times is None:
                break
            wanted.append(times)
    if not wanted:
        return
    opened = open_source(file)
    with opened.container:
        frames = opened.frames(packets.picks(np.concatenate(wanted)))
        for (span, made), pts in zip(spans, wanted, strict=False):
            shown = _shown_at(frames, set(pts.tolist()), span, opened, made)
            if len(shown) < len(set(pts.tolist())):
                return
            yield span, np.stack([shown[time] for time in pts.tolist()])


def _wanted(
    packets: Packets, span: Mapping[str, Any], time_base: Fraction, settings: DataSettings
) -> NDArray[np.int64] | None:
    """Times in ticks of the frames that a clip shows [T]; None where the packets do not tell of the span's ends."""
    first, last = np.searchsorted(packets.shown_pts, [span["start_pts"], span["stop_pts"]])
    pts = packets.shown_pts[first : last + 1]
    if not len(pts) or pts[0] != span["start_pts"] or pts[-1] != span["stop_pts"]:
        return None
    times_s = np.array([float(int(time - pts[0]) * time_base) for time in pts])
    return pts[nearest(times_s, sample_times(settings))]


def _shown_at(
    frames: Iterator[tuple[int, VideoFrame]], wanted: set[int], span: dict[str, Any], opened: Opened,
    settings: DataSettings,
) -> dict[int, NDArray[np.uint8]]:  # fmt: skip
    """The fitted pictures of some times, as far as they come undamaged; takes no frame beyond the last of them."""
    shown: dict[int, NDArray[np.uint8]] = {}
    for pts, frame in frames:
        if frame.is_corrupt or opened.bad_packets:
            return {}
        if pts in wanted:
            shown[pts] = _fitted(frame, span, opened, settings)
        if pts >= span["stop_pts"]:
            break
    return shown


def _in_order(
    file: Path, spans: Sequence[tuple[dict[str, Any], DataSettings]]
) -> Iterator[tuple[dict[str, Any], NDArray[np.uint8]]]:
    """The spans that have frames, from a pass over all frames."""
    opened = open_source(file)
    with opened.container:
        frames = opened.frames()
        for span, made in spans:
            # Only frames that a clip takes are converted: of 24 a second, 8.
            taken = [
                _fitted(frame, span, opened, made)
                for frame in _on_show(_within(frames, span, opened.time_base), sample_times(made))
            ]
            if taken:
                yield span, np.stack(taken)


def _fitted(frame: VideoFrame, span: dict[str, Any], opened: Opened, settings: DataSettings) -> NDArray[np.uint8]:
    return fit(upright(as_bytes(frame, "rgb24"), opened.rotation), span, opened.upright_sar, settings)


def _within(
    frames: Iterator[tuple[int, VideoFrame]], span: Mapping[str, Any], time_base: Fraction
) -> Iterator[tuple[float, VideoFrame]]:
    """The frames of a span with their seconds from its start; takes no frame beyond its last."""
    for pts, frame in frames:
        if pts >= span["start_pts"]:
            yield float((pts - span["start_pts"]) * time_base), frame
        if pts >= span["stop_pts"]:
            return


def _on_show(frames: Iterator[tuple[float, VideoFrame]], wanted_s: NDArray[np.float64]) -> Iterator[VideoFrame]:
    """What `nearest` finds, as the frames come: the last that began by each wanted time."""
    shown, waiting = None, list(wanted_s[::-1])
    for time_s, frame in frames:
        while shown is not None and waiting and time_s > waiting[-1] + ROUNDING_S:
            waiting.pop()
            yield shown
        shown = frame
    if shown is not None:
        yield from [shown] * len(waiting)


def _row(span: dict[str, Any], shown: NDArray[np.uint8], frame_rate: str) -> dict[str, Any]:
    media = encode(shown, frame_rate)
    return {
        "clip_id": span["clip_id"],
        "source_id": span["source_id"],
        "split": span["split"],
        "frames": shown.shape[0],
        "height": shown.shape[1],
        "width": shown.shape[2],
        "frame_rate": frame_rate,
        "media": media,
        "media_sha256": hashlib.sha256(media).hexdigest(),
    }
