"""Kept spans to clips: upright, without bars, square pixels, the recipe's shape and rate, H.264 that decodes fast."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.analyze import nearest, sample_times
from data_prep.decode import as_bytes, open_source, upright
from data_prep.settings import DataSettings

__all__ = ["ENCODING_VERSION", "cut", "encode", "fit", "pictures"]

ENCODING_VERSION = 1


def cut(file: Path, spans: Sequence[dict[str, Any]], settings: DataSettings) -> list[dict[str, Any]]:
    """Rows for `clips`: the media of the spans of one source, in one more sequential pass over it."""
    ordered = sorted(spans, key=lambda span: span["start_pts"])
    return [_row(span, shown, settings) for span, shown in pictures(file, ordered, settings)]


def fit(picture: NDArray[np.uint8], span: dict[str, Any], sar: Fraction, settings: DataSettings) -> NDArray[np.uint8]:
    """An upright picture [H, W, 3] cropped to the span's crop and the wanted aspect about its center, then scaled.

    `sar` is the width over height of an upright pixel. The scaler is bicubic with anti-aliasing.
    """
    x, y, width, height = span["crop_x"], span["crop_y"], span["crop_w"], span["crop_h"]
    aspect = settings.width / settings.height / float(sar)  # wanted width over height, in source pixels
    keep_w, keep_h = min(width, height * aspect), min(height, width / aspect)
    left, top = x + (width - keep_w) / 2, y + (height - keep_h) / 2
    image = Image.fromarray(np.ascontiguousarray(picture)).resize(
        (settings.width, settings.height), Image.Resampling.BICUBIC, box=(left, top, left + keep_w, top + keep_h)
    )
    return np.asarray(image)


def encode(video: NDArray[np.uint8], rate: str) -> bytes:
    """uint8 [T, H, W, 3] to an mp4 of H.264, closed groups of pictures; the bytes are a function of the pictures."""
    _, height, width, _ = video.shape
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"
        raw = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=rate)
        command = raw.output(
            str(file), vcodec="libx264", pix_fmt="yuv420p", crf=18, preset="veryfast", tune="fastdecode", threads=1,
            g=48, flags="+cgop+bitexact", fflags="+bitexact", map_metadata=-1, loglevel="error",
            vf="scale=out_color_matrix=bt601:out_range=tv:flags=accurate_rnd+full_chroma_inp",
        )  # fmt: skip
        command.run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), input=video.tobytes(), capture_stderr=True)
        return file.read_bytes()


def pictures(
    file: Path, spans: Sequence[dict[str, Any]], settings: DataSettings
) -> Iterator[tuple[dict[str, Any], NDArray[np.uint8]]]:
    """Each span with its fitted pictures [T, H, W, 3]; spans are in order and do not overlap."""
    opened = open_source(file)
    waiting = list(spans)
    taken: list[tuple[float, NDArray[np.uint8]]] = []
    with opened.container:
        for pts, frame in opened.frames():
            if not waiting:
                return
            span = waiting[0]
            if span["start_pts"] <= pts <= span["stop_pts"]:
                sar = 1 / opened.sar if opened.rotation % 180 else opened.sar
                picture = upright(as_bytes(frame, "rgb24"), opened.rotation)
                taken.append((float((pts - span["start_pts"]) * opened.time_base), fit(picture, span, sar, settings)))
            if pts >= span["stop_pts"]:
                yield span, _resampled(taken, settings)
                waiting, taken = waiting[1:], []


def _resampled(taken: list[tuple[float, NDArray[np.uint8]]], settings: DataSettings) -> NDArray[np.uint8]:
    times_s = np.array([time_s for time_s, _ in taken])
    return np.stack([taken[place][1] for place in nearest(times_s, sample_times(settings))])


def _row(span: dict[str, Any], shown: NDArray[np.uint8], settings: DataSettings) -> dict[str, Any]:
    media = encode(shown, settings.frame_rate)
    return {
        "clip_id": span["clip_id"],
        "source_id": span["source_id"],
        "split": span["split"],
        "frames": settings.frames,
        "height": settings.height,
        "width": settings.width,
        "frame_rate": settings.frame_rate,
        "media": media,
        "media_sha256": hashlib.sha256(media).hexdigest(),
    }
