"""What a sample video will show, decided before anything is drawn: a function of (seed, number of the file).

Nothing depends on how many files are asked for, so a longer folder starts with the files of a shorter one.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidgen_core import scene
from vidgen_core.scene import Description, Manner

__all__ = ["FRAME_RATE", "SIDE_PX", "Film", "Ground", "Shot", "film"]

Broken = Literal["no index", "empty", "garbage"]
Bars = Literal["letterbox", "pillarbox"]
Ground = Literal["plain", "gradient", "stripes", "checks", "clouds", "grain"]

FRAME_RATE = Fraction(24)
SIDE_PX = 128
BAR_PX = 16
_SHOTS = 5
_DISSOLVE_FRAMES = (6, 10)
# A clip of nine frames at 8 a second spans 27 frames here. Shots hold one or two clips and some frames of margin.
_ONE_CLIP_FRAMES = (31, 40)
_TWO_CLIPS_FRAMES = (57, 64)
_GROUNDS: tuple[Ground, ...] = ("plain", "gradient", "stripes", "checks", "clouds", "grain")
# Per block of 32 files: exact shares, so that even a small folder has some of everything.
_BLOCK = 32
_WEBM, _LETTERBOXED, _PILLARBOXED, _DISSOLVED = 5, 2, 1, 10
_BROKEN: tuple[Broken, ...] = ("no index", "empty", "garbage")


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One continuous take.

    Attributes:
        description: Everything about it, size and speed included.
        caption: What its caption says; size and speed are often left out.
        start, stop: The frames of the file that show this shot and no other.
        lead_in, lead_out: Frames of dissolve before `start` and after `stop` in which it is also seen.
        radius_px: Radius of the shape.
        color: Its color as drawn, RGB.
        ground: Kind of its ground; `ground_seed` and `level` (mean gray) fix the picture.
        centers: Center (x, y) of the shape in the picture for every frame from `start - lead_in`, in px.

    """

    description: Description
    caption: str
    start: int
    stop: int
    lead_in: int
    lead_out: int
    radius_px: float
    color: tuple[int, int, int]
    ground: Ground
    ground_seed: int
    level: int
    centers: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Film:
    """One file; a broken one is planned like the others and spoiled when it is written."""

    name: str
    shots: tuple[Shot, ...]
    bars: Bars | None
    broken: Broken | None

    @property
    def frames(self) -> int:
        """Length of the file."""
        return self.shots[-1].stop

    @property
    def cuts(self) -> list[int]:
        """First frames of the shots that begin with a hard cut."""
        return [shot.start for shot in self.shots[1:] if shot.lead_in == 0]

    @property
    def dissolves(self) -> list[tuple[int, int]]:
        """Frames [start, stop) in which two shots are seen."""
        return [(shot.start - shot.lead_in, shot.start) for shot in self.shots if shot.lead_in]

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height) of the file's frames."""
        _, _, width, height = self.picture
        return (
            width + 2 * BAR_PX * (self.bars == "pillarbox"),
            height + 2 * BAR_PX * (self.bars == "letterbox"),
        )

    @property
    def picture(self) -> tuple[int, int, int, int]:
        """(x, y, width, height) of the picture inside the bars, in px."""
        return (BAR_PX * (self.bars == "pillarbox"), BAR_PX * (self.bars == "letterbox"), SIDE_PX, SIDE_PX)


def film(seed: int, number: int) -> Film:
    """The plan of file `number` of the folder with this seed."""
    block, place = divmod(number, _BLOCK)
    order = np.random.default_rng([seed, 1, block])
    webm = place in order.permutation(_BLOCK)[:_WEBM]
    barred = list(order.permutation(_BLOCK)[: _LETTERBOXED + _PILLARBOXED])
    bars: Bars | None = None
    if place in barred:
        bars = "letterbox" if barred.index(place) < _LETTERBOXED else "pillarbox"
    dissolved = place in order.permutation(_BLOCK)[:_DISSOLVED]
    broken = _BROKEN[block % len(_BROKEN)] if place == order.integers(_BLOCK) else None
    if broken is not None:
        webm = False
    rng = np.random.default_rng([seed, 2, number])
    return Film(
        name=f"shapes-{number:05d}.{'webm' if webm else 'mp4'}",
        shots=_shots(rng, dissolved),
        bars=bars,
        broken=broken,
    )


def _shots(rng: np.random.Generator, dissolved: bool) -> tuple[Shot, ...]:
    count = _SHOTS + int(rng.integers(-1, 2))
    into = int(rng.integers(1, count)) if dissolved else 0
    overlap = int(rng.integers(_DISSOLVE_FRAMES[0], _DISSOLVE_FRAMES[1] + 1)) if dissolved else 0
    shots: list[Shot] = []
    start = 0
    for place in range(count):
        lead_in = overlap if dissolved and place == into else 0
        lead_out = overlap if dissolved and place == into - 1 else 0
        shots.append(_shot(rng, start + lead_in, lead_in, lead_out, shots[-1].level if shots else None))
        start = shots[-1].stop
    return tuple(shots)


def _shot(rng: np.random.Generator, start: int, lead_in: int, lead_out: int, level_before: int | None) -> Shot:
    described = _description(rng, slow=lead_in + lead_out > 0)
    radius_px = SIDE_PX * float(rng.uniform(*scene.RADII[described.size or "small"]))
    low, high = _TWO_CLIPS_FRAMES if rng.random() < 0.4 else _ONE_CLIP_FRAMES
    frames = int(rng.integers(low, high + 1)) + lead_in + lead_out
    centers = _centers(rng, described, radius_px, frames)
    clean = len(centers) - lead_in - lead_out
    return Shot(
        description=described,
        caption=described.unsaid(size=bool(rng.random() < 0.6), speed=bool(rng.random() < 0.6)).caption(),
        start=start,
        stop=start + clean,
        lead_in=lead_in,
        lead_out=lead_out,
        radius_px=radius_px,
        color=_tone(rng, described.color),
        ground=_GROUNDS[int(rng.integers(len(_GROUNDS)))],
        ground_seed=int(rng.integers(2**31)),
        level=_level(rng, level_before),
        centers=centers,
    )


def _description(rng: np.random.Generator, *, slow: bool) -> Description:
    luck = rng.random()
    manner: Manner = "stands still" if luck < 0.08 else "bounces" if luck < 0.20 else "moves"
    ways = list(scene.BOUNCES if manner == "bounces" else scene.DIRECTIONS)
    speed = "slow" if slow or rng.random() < 0.5 else "quick"
    return Description(
        color=list(scene.COLORS)[int(rng.integers(len(scene.COLORS)))],
        shape=scene.SHAPES[int(rng.integers(len(scene.SHAPES)))],
        manner=manner,
        direction=None if manner == "stands still" else ways[int(rng.integers(len(ways)))],
        size=list(scene.RADII)[int(rng.integers(len(scene.RADII)))],
        speed=None if manner == "stands still" else speed,
    )


def _centers(rng: np.random.Generator, described: Description, radius_px: float, frames: int) -> NDArray[np.float64]:
    """Centers [frames, 2]; a shape that moves gets no more frames than the picture has room for."""
    left, right, up, down = (radius_px * reach for reach in scene.extent(described.shape))
    low, high = np.array([left, up]), np.array([SIDE_PX - right, SIDE_PX - down])
    if described.manner == "stands still":
        return np.repeat(rng.uniform(low, high)[None], frames, axis=0)
    axis_xy = np.array((scene.DIRECTIONS | scene.BOUNCES)[str(described.direction)])
    axis = int(np.flatnonzero(axis_xy)[0])
    room = high[axis] - low[axis]
    step = SIDE_PX * float(rng.uniform(*scene.SPEEDS[str(described.speed)])) / float(FRAME_RATE)
    center = rng.uniform(low, high)
    if described.manner == "moves":
        frames = min(frames, int(room / step) + 1)
        travel = step * np.arange(frames)
        begin = rng.uniform(0, room - travel[-1])
    else:
        # A triangle wave: unfolded, a bounce is a straight line over a picture that repeats mirrored.
        begin = rng.uniform(0, 2 * room)
        travel = step * np.arange(frames)
    unfolded = (begin + travel) % (2 * room)
    along = np.minimum(unfolded, 2 * room - unfolded)
    if axis_xy.sum() < 0:
        along = room - along
    path = np.repeat(center[None], frames, axis=0)
    path[:, axis] = low[axis] + along
    return path


def _tone(rng: np.random.Generator, color: str) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in np.clip(np.array(scene.COLORS[color]) + rng.integers(-10, 11, 3), 0, 255))
    return (red, green, blue)


def _level(rng: np.random.Generator, before: int | None) -> int:
    """Mean gray of a ground: dark, middle or light, and clearly another one than the shot before has."""
    while True:
        low, high = ((44, 72), (100, 150), (180, 216))[int(rng.integers(3))]
        level = int(rng.integers(low, high))
        if before is None or abs(level - before) > 24:
            return level
