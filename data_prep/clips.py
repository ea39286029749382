"""Kept spans to clips: upright, without bars, square pixels, the recipe's shape and rate, H.264 that decodes fast."""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg
import numpy as np
from av import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from data_prep.analyze import ROUNDING_S, sample_times
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
    with opened.container:
        frames = opened.frames()
        for span in spans:
            # Only frames that a clip takes are converted: of 24 a second, 8.
            taken = [
                fit(upright(as_bytes(frame, "rgb24"), opened.rotation), span, opened.upright_sar, settings)
                for frame in _on_show(_within(frames, span, opened.time_base), sample_times(settings))
            ]
            if taken:
                yield span, np.stack(taken)


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
