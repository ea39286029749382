"""Pictures, videos and masks that somebody hands to a model: upright, at the size and frame rate of its videos."""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from data_prep.analyze import ROUNDING_S
from data_prep.clips import fit
from data_prep.decode import Opened, Undecodable, as_bytes, open_source, upright
from data_prep.settings import DataSettings
from vidgen_core.clip import parse_rate
from vidgen_core.errors import VidgenError

__all__ = ["Shown", "read_mask", "read_picture", "read_video"]

# More than an hour at eight frames a second: a model that goes on from a video needs its end alone.
_MOST_FRAMES = 30_000
# Of 255: the scaler lets a hole shine a little beyond its edge.
_COVERED = 51


@dataclass(frozen=True)
class Shown:
    """What was read.

    Attributes:
        video: uint8 [T, H, W, 3] as the model takes it.
        width_px, height_px: Size of the file's pictures, upright.
        sar: Width over height of one of its pixels.
        note: What was changed on the way, a sentence; "" where nothing was.

    """

    video: NDArray[np.uint8]
    width_px: int
    height_px: int
    sar: Fraction
    note: str


def read_picture(file: Path, height: int, width: int) -> Shown:
    """A picture cropped about its center to the aspect of height x width, and scaled to it.

    Raises:
        VidgenError: There is no such file, or it is no picture.

    """
    picture = _picture(file, "RGB")
    fitted = _fitted(picture, Fraction(1), height, width)[None]
    note = _resized(file, picture.shape[1], picture.shape[0], height, width)
    return Shown(fitted, picture.shape[1], picture.shape[0], Fraction(1), note)


def read_video(file: Path, height: int, width: int, rate: str) -> Shown:
    """A video at a size and a frame rate: at each time the frame that is on show, cropped about its center and scaled.

    Raises:
        VidgenError: There is no such file, it is no video, or it is too long.

    """
    _check_there(file)
    try:
        opened = open_source(file)
        with opened.container:
            frames, size, own_rate = _frames(file, opened, height, width, parse_rate(rate))
            # A stream of a closed file must not be asked.
            sar = opened.upright_sar
    except Undecodable as error:
        raise VidgenError(f"This is no video that can be read: {error.message}", got=str(file)) from error
    notes = [_resized(file, *size, height, width)]
    if own_rate is not None and abs(own_rate / float(parse_rate(rate)) - 1) > 0.01:
        notes.append(f"{file.name} has {own_rate:.3g} frames a second and is taken at {rate}, the model's.")
    return Shown(np.stack(frames), *size, sar, " ".join(filter(None, notes)))


def read_mask(told: str, like: Shown, height: int, width: int) -> NDArray[np.bool_]:
    """Where a video is to be drawn anew, bool [H, W] of the model's size: pixels of which the hole covers a fifth.

    Args:
        told: "x,y,w,h" in pixels of the file, or a picture of the file's size that is white there.
        like: The video.
        height, width: Of the model's videos.

    Raises:
        VidgenError: It is neither, has another size than the video, or reaches out of it.

    """
    hole = np.zeros((like.height_px, like.width_px), np.uint8)
    if (box := _box(told)) is not None:
        x, y, w, h = box
        if min(x, y) < 0 or min(w, h) < 1 or x + w > like.width_px or y + h > like.height_px:
            raise VidgenError(
                "The mask reaches out of the video", got=told, allowed=f"within {like.width_px}x{like.height_px} pixels"
            )
        hole[y : y + h, x : x + w] = 255
    else:
        drawn = _picture(Path(told), "L")
        if drawn.shape != hole.shape:
            raise VidgenError(
                "The mask has another size than the video",
                got=f"{drawn.shape[1]}x{drawn.shape[0]}",
                allowed=f"{like.width_px}x{like.height_px}",
                move="Draw it in the video's size, white where it is to be drawn anew, or give x,y,w,h",
            )
        hole = np.where(drawn > 127, 255, 0).astype(np.uint8)
    touched = _fitted(np.repeat(hole[..., None], 3, axis=2), like.sar, height, width)[..., 0] > _COVERED
    if not touched.any() or touched.all():
        raise VidgenError(
            "The mask leaves nothing of the video" if touched.any() else "The mask leaves nothing to draw",
            got=told,
            move="Mark a part of what the model sees: the middle of the video in the aspect of its own videos",
        )
    return np.asarray(touched)


def _frames(
    file: Path, opened: Opened, height: int, width: int, rate: Fraction
) -> tuple[list[NDArray[np.uint8]], tuple[int, int], float | None]:
    """Frames on show at multiples of 1 / rate, size of upright pictures (width, height), and the file's own rate."""
    taken: list[NDArray[np.uint8]] = []
    shown, time_s, count = None, 0.0, 0
    for pts, frame in opened.frames():
        time_s, count = float((pts - (opened.first_pts or 0)) * opened.time_base), count + 1
        if shown is not None:
            # The frame before was on show until now.
            _take(taken, shown, _due(time_s, rate, file), opened, (height, width))
        shown = frame
    if shown is None:
        raise Undecodable("no_picture_decoded", "its stream decodes to no picture")
    step_s = time_s / (count - 1) if time_s else float(1 / rate)
    _take(taken, shown, max(1, _due(time_s + step_s, rate, file)), opened, (height, width))
    turned = opened.rotation % 180 != 0
    size = (shown.height, shown.width) if turned else (shown.width, shown.height)
    return taken, size, 1 / step_s if time_s else None


def _take(
    taken: list[NDArray[np.uint8]], frame: av.VideoFrame, until: int, opened: Opened, size: tuple[int, int]
) -> None:  # fmt: skip
    """Add a frame as often as it takes to have so many."""
    if until > len(taken):
        picture = _fitted(upright(as_bytes(frame, "rgb24"), opened.rotation), opened.upright_sar, *size)
        taken += [picture] * (until - len(taken))


def _due(time_s: float, rate: Fraction, file: Path) -> int:
    """Multiples of 1 / rate, from 0 on, that are before a time.

    Raises:
        VidgenError: They are too many; one wrong time of a frame can make them billions.

    """
    due = max(0, math.ceil((time_s - ROUNDING_S) * float(rate)))
    if due > _MOST_FRAMES:
        raise VidgenError(
            "The video is too long",
            got=f"{file}, {time_s:.0f} s",
            allowed=f"{_MOST_FRAMES} frames at {rate} a second",
            move="Cut out the part that the model is to see",
        )
    return due


def _fitted(picture: NDArray[np.uint8], sar: Fraction, height: int, width: int) -> NDArray[np.uint8]:
    whole = {"crop_x": 0, "crop_y": 0, "crop_w": picture.shape[1], "crop_h": picture.shape[0]}
    return fit(picture, whole, sar, DataSettings().model_copy(update={"height": height, "width": width}))


def _picture(file: Path, mode: str) -> NDArray[np.uint8]:
    _check_there(file)
    try:
        with Image.open(file) as opened:
            return np.asarray(ImageOps.exif_transpose(opened).convert(mode))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise VidgenError(
            "This is no picture that can be read", got=str(file), move="Give a PNG, JPEG or WebP file"
        ) from error


def _check_there(file: Path) -> None:
    if not file.is_file():
        raise VidgenError("There is no such file", got=str(file))


def _box(told: str) -> tuple[int, int, int, int] | None:
    """Four whole numbers, or None where it is something else."""
    parts = told.split(",")
    if len(parts) != 4 or not all(part.strip().lstrip("-").isdigit() for part in parts):
        return None
    x, y, w, h = (int(part) for part in parts)
    return x, y, w, h


def _resized(file: Path, own_width: int, own_height: int, height: int, width: int) -> str:
    if (own_width, own_height) == (width, height):
        return ""
    return f"{file.name} is {own_width}x{own_height}; its middle is taken at {width}x{height}, the model's size."
