"""Makes a film from its plan: real clips, a camera that moves over them, the joints between them, and disturbances."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.decode import open_source
from data_prep.view import thumb

Frames = NDArray[np.uint8]  # [T, H, W, 3]
WIDE, HIGH = 480, 270
_MARGIN = 1.25  # clips are decoded larger than the film, so that a shaking or panning camera has room


@dataclass(frozen=True)
class Joint:
    """How a shot gives way to the next; `frames` mixed pictures between them, 0 for a hard cut."""

    kind: str
    frames: int = 0


@dataclass(frozen=True)
class Film:
    """A plan: pieces (clip, first, frames), the joints between them, disturbances (kind, first frame, frames)."""

    name: str
    seed: int
    pieces: tuple[tuple[str, int, int], ...]
    joints: tuple[Joint, ...]
    camera: str = "still"
    events: tuple[tuple[str, int, int], ...] = ()
    look: str = "plain"
    rate: int = 24
    crf: int = 23
    codec: str = "libx264"
    stored: tuple[int, int] = field(default=(WIDE, HIGH))


def thumbs_of(file: Path) -> Frames:
    """Thumbnails as `prepare` takes them."""
    opened = open_source(file)
    with opened.container:
        return np.stack([thumb(frame) for _, frame in opened.frames()])


def make(film: Film, videos: Path, folder: Path) -> Path:
    """Write the film and its truth beside it (`.json`, in the form of an entry of `cuts.json`)."""
    file = folder / f"{film.name}.mp4"
    truth = folder / f"{film.name}.json"
    if truth.exists():
        return file
    frames, cuts = _assemble(film, videos)
    frames = _LOOKS[film.look](_disturbed(frames, film), random.Random(film.seed))
    _encode(frames, film, file)
    times = 2 if film.look == "doubled" else 1
    cuts = [{key: value if key == "type" else value * times for key, value in cut.items()} for cut in cuts]
    entry = {"file": file.name, "fps": film.rate, "frames": len(frames), "cuts": cuts, "events": film.events}
    truth.write_text(json.dumps(entry))
    return file


def _assemble(film: Film, videos: Path) -> tuple[Frames, list[dict[str, object]]]:
    chance = random.Random(film.seed)
    shots = [_shot(videos / name, first, frames, film.camera, chance) for name, first, frames in film.pieces]
    parts, cuts, at, used = [], [], 0, 0
    for shot, joint, after in zip(shots, film.joints, shots[1:], strict=False):
        body = shot[used : len(shot) - joint.frames]
        parts.append(body)
        at += len(body)
        if joint.frames:
            parts.append(_mixed(shot[-joint.frames :], after[: joint.frames], joint.kind))
            cuts.append({"type": joint.kind, "start": at, "end": at + joint.frames, "frame": at + joint.frames // 2})
        else:
            cuts.append({"type": "hard", "frame": at})
        at, used = at + joint.frames, joint.frames
    parts.append(shots[-1][used:])
    return np.concatenate(parts), cuts


def _shot(file: Path, first: int, frames: int, camera: str, chance: random.Random) -> Frames:
    whole = _decoded(file)[first : first + frames]
    whole = (
        np.concatenate([whole, np.repeat(whole[-1:], frames - len(whole), axis=0)]) if len(whole) < frames else whole
    )
    return _CAMERAS[camera](whole, chance)


@lru_cache(maxsize=8)
def _decoded(file: Path) -> Frames:
    opened = open_source(file)
    with opened.container:
        frames = [
            frame.reformat(int(WIDE * _MARGIN), int(HIGH * _MARGIN), "rgb24").to_ndarray()
            for _, (_, frame) in zip(range(280), opened.frames(), strict=False)
        ]
    return np.stack(frames)


# ---- cameras: from the wide picture to the film's


def _crop(frames: Frames, x_px: NDArray[np.int_], y_px: NDArray[np.int_]) -> Frames:
    return np.stack([f[y : y + HIGH, x : x + WIDE] for f, x, y in zip(frames, x_px, y_px, strict=True)])


def _still(frames: Frames, chance: random.Random) -> Frames:
    middle = np.full(len(frames), 1)
    room_x, room_y = frames.shape[2] - WIDE, frames.shape[1] - HIGH
    return _crop(frames, middle * chance.randint(0, room_x), middle * chance.randint(0, room_y))


def _fixed(frames: Frames, chance: random.Random) -> Frames:
    zero = np.zeros(len(frames), int)
    return _crop(frames, zero + (frames.shape[2] - WIDE) // 2, zero + (frames.shape[1] - HIGH) // 2)


def _shaking(frames: Frames, chance: random.Random) -> Frames:
    rng = np.random.default_rng(chance.randrange(2**32))
    room_x, room_y = frames.shape[2] - WIDE, frames.shape[1] - HIGH
    reach = chance.uniform(0.2, 0.5)
    x = (room_x * (0.5 + reach * rng.uniform(-1, 1, len(frames)))).astype(int)
    return _crop(frames, x, (room_y * (0.5 + reach * rng.uniform(-1, 1, len(frames)))).astype(int))


def _panning(frames: Frames, chance: random.Random) -> Frames:
    """The camera pans at up to a tenth of the picture's width a frame."""
    speed = chance.choice([12, 20, 30, 45])
    begin, end = sorted(chance.sample(range(len(frames)), 2))
    return _along(frames, speed * (np.arange(len(frames)).clip(begin, end) - begin))


def _drifting(frames: Frames, chance: random.Random) -> Frames:
    """The camera pans slowly from the first frame to the last, from a tripod or from the hand."""
    speed, reach = chance.choice([1, 2, 3, 5, 8]), chance.choice([0, 0, 4, 10])
    rng = np.random.default_rng(chance.randrange(2**32))
    return _along(frames, speed * np.arange(len(frames)) + (reach * rng.uniform(0, 1, len(frames))).astype(int))


def _along(frames: Frames, x_px: NDArray[np.int_]) -> Frames:
    """Seen at these places of a mirrored panorama."""
    wide = np.concatenate([frames, frames[:, :, ::-1]], axis=2)
    moved = [np.roll(frame, -int(x), axis=1)[10 : 10 + HIGH, :WIDE] for frame, x in zip(wide, x_px, strict=True)]
    return np.stack(moved)


def _zooming(frames: Frames, chance: random.Random) -> Frames:
    """Twice as near within 8 to 20 frames."""
    begin, length = chance.randrange(0, max(1, len(frames) // 2)), chance.randint(8, 20)
    height, width = frames.shape[1:3]
    out = []
    for place, frame in enumerate(frames):
        near = 1 + min(max(place - begin, 0), length) / length
        w, h = width / near, height / near
        box = ((width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2)
        out.append(np.asarray(Image.fromarray(frame).resize((WIDE, HIGH), Image.Resampling.BILINEAR, box)))
    return np.stack(out)


_CAMERAS: dict[str, Callable[[Frames, random.Random], Frames]] = {
    "still": _still, "fixed": _fixed, "shaking": _shaking, "panning": _panning, "drifting": _drifting,
    "zooming": _zooming,
}  # fmt: skip


# ---- transitions


def _mixed(before: Frames, after: Frames, kind: str) -> Frames:
    count = len(before)
    share = ((np.arange(count) + 1) / (count + 1)).astype(np.float32)
    if kind == "dissolve":
        return _blend(before, after, share[:, None, None, None])
    if kind.startswith("fade_"):
        plain = np.full_like(before, 0 if kind == "fade_black" else 255)
        out = _blend(before, plain, (2 * share).clip(0, 1)[:, None, None, None])
        back = _blend(plain, after, (2 * share - 1).clip(0, 1)[:, None, None, None])
        return np.where((share < 0.5)[:, None, None, None], out, back)
    return np.where(_mask(kind, share)[..., None], after, before)


def _blend(before: Frames, after: Frames, share: NDArray[np.float32]) -> Frames:
    return (before * (1 - share) + after * share + 0.5).astype(np.uint8)


def _mask(kind: str, share: NDArray[np.float32]) -> NDArray[np.bool_]:
    y, x = np.meshgrid(np.linspace(0, 1, HIGH), np.linspace(0, 1, WIDE), indexing="ij")
    place = {
        "wipe_left": 1 - x,
        "wipe_right": x,
        "wipe_up": 1 - y,
        "wipe_down": y,
        "circle": np.hypot((x - 0.5) * 16 / 9, y - 0.5) / np.hypot(8 / 9, 0.5),
    }[kind]
    return place[None] < share[:, None, None]


# ---- disturbances that are no cuts


def _disturbed(frames: Frames, film: Film) -> Frames:
    chance = random.Random(film.seed + 1)
    frames = frames.copy()
    for kind, first, count in film.events:
        frames[first : first + count] = _EVENTS[kind](frames[first : first + count], chance)
    return frames


def _flash(frames: Frames, chance: random.Random) -> Frames:
    strength = chance.choice([60, 120, 200, 255])
    fall = np.linspace(1, chance.choice([0.3, 1.0]), len(frames))[:, None, None, None]
    return (frames + strength * fall).clip(0, 255).astype(np.uint8)


def _gain(frames: Frames, chance: random.Random) -> Frames:
    return (frames * chance.choice([0.45, 0.6, 1.4, 1.8])).clip(0, 255).astype(np.uint8)


def _exposure_ramp(frames: Frames, chance: random.Random) -> Frames:
    goal = chance.choice([0.4, 0.6, 1.5, 2.0])
    ramp = np.interp(np.arange(len(frames)), [0, min(12, len(frames) - 1)], [1, goal])
    return (frames * ramp[:, None, None, None]).clip(0, 255).astype(np.uint8)


def _occluder(frames: Frames, chance: random.Random) -> Frames:
    """An upright bar, up to two thirds of the picture wide, crosses it."""
    out, width = frames.copy(), int(WIDE * chance.uniform(0.2, 0.66))
    color = [chance.randrange(30, 200) for _ in range(3)]
    grain = np.random.default_rng(chance.randrange(2**32)).integers(-25, 25, (HIGH, width, 1))
    patch = (np.array(color) + grain).clip(0, 255).astype(np.uint8)
    for frame, place in zip(out, np.linspace(-width, WIDE, len(frames)).astype(int), strict=True):
        left, right = max(place, 0), min(place + width, WIDE)
        frame[:, left:right] = patch[:, left - place : right - place]
    return out


def _strobe(frames: Frames, chance: random.Random) -> Frames:
    period = chance.choice([2, 3, 5])
    lit = (np.arange(len(frames)) // period % 2).astype(bool)[:, None, None, None]
    return np.where(lit, (frames * 1.3 + 60.0).clip(0, 255), frames).astype(np.uint8)


_EVENTS: dict[str, Callable[[Frames, random.Random], Frames]] = {
    "flash": _flash, "gain": _gain, "exposure_ramp": _exposure_ramp, "occluder": _occluder, "strobe": _strobe,
}  # fmt: skip


# ---- looks of a whole film


def _grainy(frames: Frames, chance: random.Random) -> Frames:
    rng = np.random.default_rng(chance.randrange(2**32))
    return np.stack([(f + rng.normal(0, 12, f.shape)).clip(0, 255).astype(np.uint8) for f in frames])


def _boxed(frames: Frames, chance: random.Random) -> Frames:
    out = frames.copy()
    out[:, :36] = out[:, -36:] = 0
    return out


_LOOKS: dict[str, Callable[[Frames, random.Random], Frames]] = {
    "plain": lambda frames, chance: frames,
    "dark": lambda frames, chance: (frames * 0.2 + 4).astype(np.uint8),
    "flat": lambda frames, chance: (frames * 0.25 + 95).astype(np.uint8),
    "gray": lambda frames, chance: frames.mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8),
    "grainy": _grainy,
    "boxed": _boxed,
    "doubled": lambda frames, chance: frames.repeat(2, axis=0),
}


def _encode(frames: Frames, film: Film, file: Path) -> None:
    """`doubled` films show each picture twice, as 30 frames a second in a 60 frames a second file do."""
    options = {"crf": str(film.crf), "preset": "veryfast", "threads": "1"}
    if film.codec == "libvpx-vp9":
        options = {"crf": str(film.crf), "b": "0", "deadline": "realtime", "cpu-used": "8", "threads": "1"}
    with av.open(str(file), "w") as container:
        stream = container.add_stream(film.codec, rate=Fraction(film.rate), options=options)
        stream.width, stream.height = film.stored
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
