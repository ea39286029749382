"""Exact checks of clips of the sample world: is there one shape, which, in what color, and where does it go.

Grounds are gray and shapes are saturated, so saturation alone finds the shapes. Color is the nearest of the world's six
by hue, shape the best of the world's templates for the picture averaged along the track, direction the slope of
a straight line through the centers of mass. Thresholds are for a picture 32 pixels high and scale with it.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vidgen_core import scene
from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen

__all__ = ["Observation", "Score", "Share", "mistakes", "observe", "score"]

Floats = NDArray[np.float64]

_LEAST_SATURATION = 60.0  # of 255, after smoothing; grounds stay below 20, a wanted shape is near 150
_EDGE = 0.5  # of the shape's own saturation: where half of a pixel is covered
_LEAST_AREA_PX = 14.0  # the smallest shape has 78
_LEAST_STEADY = 0.75  # share of frames that must agree on how many shapes there are
_OTHER_COLOR = 0.2  # share of a spot in a second color that makes it two shapes
_LEAST_COLOR = 0.6  # share of the shape, over all frames, that must have its color
_LEAST_FIT = 0.9  # of the variance of the picture that a template must explain; real clips have 0.96 and more
_LEAST_TRAVEL_PX = 2.5  # over the clip; the slowest moving shape makes 6
_STEEPEST = 0.577  # of the travel may be across the main direction: 30 degrees
_STRAIGHT_PX = 0.5
_PATCH = 29  # grid of the averaged picture, in pixels of a clip 32 high
_SIDE_PX = 32.0
_ASPECTS = ("one_shape", "color", "shape", "direction", "straight")


@dataclass(frozen=True)
class Observation:
    """What is seen in one clip.

    Attributes:
        count: Shapes in it; 1 only when at least three quarters of the frames show exactly one. Two of the same color
            that touch are one spot, which fits no template: `shape` is None.
        color: A key of `scene.COLORS`, or None without a shape or when no color prevails.
        shape: One of `scene.SHAPES`, or None when no template fits or it becomes another on the way.
        direction: A key of `scene.DIRECTIONS`, or None when it stands still, goes aslant or cannot be followed.
        straight: It moves, and keeps to uniform motion on a straight line.
        residual_px: Root mean square distance of the centers from such motion.
        speed_px: Pixels a frame along that line.
        fit: Share of the picture's variance that the best template explains.

    """

    count: int
    color: str | None = None
    shape: str | None = None
    direction: str | None = None
    straight: bool = False
    residual_px: float = math.inf
    speed_px: float = 0.0
    fit: float = 0.0


class Share(Frozen):
    """How many of how many, with the 95 % Wilson interval."""

    right: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, right: int, total: int) -> "Share":
        """The share of `right` in `total`; nothing counted leaves everything open."""
        if total == 0:
            return cls(right=0, total=0, low=0.0, high=1.0)
        z = 1.959964
        share, spread = right / total, z * z / total
        middle = (share + spread / 2) / (1 + spread)
        half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
        return cls(right=right, total=total, low=max(0.0, middle - half), high=min(1.0, middle + half))

    @property
    def value(self) -> float | None:
        """The share itself, None when nothing was counted."""
        return self.right / self.total if self.total else None


class Score(Frozen):
    """How often the clips show what their captions say.

    Args:
        one_shape: There is one spot of color and it is a shape of this world, whichever. Like `color` and `shape`, over
            every caption of the sample world.
        color, shape: As told.
        direction, straight: Over those in which the shape moves (and does not bounce).
        foreign: Captions that are not of this world, not counted anywhere.

    """

    one_shape: Share
    color: Share
    shape: Share
    direction: Share
    straight: Share
    foreign: int

    def shares(self) -> dict[str, Share]:
        """The shares by name."""
        return {name: getattr(self, name) for name in _ASPECTS}


def score(observations: Sequence[Observation], captions: Sequence[str]) -> Score:
    """Compare what is seen with what was asked for."""
    if len(observations) != len(captions):
        raise VidgenError("Each clip needs its caption", got=f"{len(observations)} clips, {len(captions)} captions")
    pairs = [(seen, told) for seen, text in zip(observations, captions, strict=True) if (told := scene.parse(text))]
    answers = [_answers(seen, told) for seen, told in pairs]
    return Score(
        **{name: _share([row[name] for row in answers if name in row]) for name in _ASPECTS},
        foreign=len(observations) - len(pairs),
    )


def mistakes(observations: Sequence[Observation], captions: Sequence[str]) -> list[tuple[str, ...]]:
    """For each clip the aspects in which it is not what its caption says; none for captions of another world."""
    found = []
    for seen, text in zip(observations, captions, strict=True):
        told = scene.parse(text)
        answers = _answers(seen, told) if told else {}
        found.append(tuple(name for name, right in answers.items() if not right))
    return found


def observe(clips: NDArray[np.uint8]) -> list[Observation]:
    """Look at clips uint8 [N, T, H, W, 3]."""
    if clips.ndim != 5 or clips.shape[-1] != 3 or clips.dtype != np.uint8:
        raise VidgenError("Not clips", got=f"{clips.dtype} {clips.shape}", allowed="uint8 [N, T, H, W, 3]")
    return [_look(clip.astype(np.float32)) for clip in clips]


def _answers(seen: Observation, told: scene.Description) -> dict[str, bool]:
    """Whether each aspect that the caption speaks of is right."""
    answers = {
        "one_shape": seen.count == 1 and seen.shape is not None,
        "color": seen.color == told.color,
        "shape": seen.shape == told.shape,
    }
    if told.manner == "moves":
        answers |= {"direction": seen.direction == told.direction, "straight": seen.straight}
    return answers


def _share(answers: Sequence[bool]) -> Share:
    return Share.of(sum(answers), len(answers))


@dataclass(frozen=True)
class _Spot:
    """The largest saturated spot of one frame: soft mask, center (x, y), share of it in each color; shapes seen."""

    mask: Floats
    center: Floats
    colors: Floats
    shapes: int


def _look(clip: NDArray[np.float32]) -> Observation:
    scale = clip.shape[1] / _SIDE_PX
    spots = [_spot(frame, scale) for frame in clip]
    count = _count([spot.shapes if spot else 0 for spot in spots])
    seen = [(time, spot) for time, spot in enumerate(spots) if spot is not None]
    if len(seen) < _LEAST_STEADY * len(clip):
        return Observation(count=count)
    centers = np.stack([spot.center for _, spot in seen])
    direction, residual_px, speed_px = _motion(np.array([time for time, _ in seen], float), centers, scale)
    shape, fit = _lasting_shape(_aligned([spot.mask for _, spot in seen], centers, scale))
    colors = np.mean([spot.colors for _, spot in seen], axis=0)
    return Observation(
        count=count,
        color=_COLOR_NAMES[int(np.argmax(colors))] if colors.max() >= _LEAST_COLOR else None,
        shape=shape,
        direction=direction,
        straight=direction is not None and residual_px <= _STRAIGHT_PX * scale,
        residual_px=residual_px,
        speed_px=speed_px,
        fit=fit,
    )


def _count(counts: Sequence[int]) -> int:
    """One only when most frames say so; otherwise the most frequent other number."""
    if counts.count(1) >= _LEAST_STEADY * len(counts):
        return 1
    others = [count for count in counts if count != 1]
    return max(set(others), key=others.count)


def _spot(frame: NDArray[np.float32], scale: float) -> _Spot | None:
    """Find the shapes of one frame [H, W, 3] and describe the largest; None when there is none."""
    chroma = ndimage.gaussian_filter(frame, (0.6 * scale, 0.6 * scale, 0)).astype(np.float64)
    chroma -= chroma.mean(-1, keepdims=True)
    saturation = chroma.max(-1) - chroma.min(-1)
    spots, _ = ndimage.label(saturation > _LEAST_SATURATION)
    areas = np.bincount(spots.ravel())[1:] / scale**2
    large = np.flatnonzero(areas >= _LEAST_AREA_PX) + 1
    if len(large) == 0:
        return None
    main = spots == large[np.argmax(areas[large - 1])]
    near = ndimage.binary_dilation(main, iterations=max(1, round(1.5 * scale)))
    peak = np.percentile(saturation[main], 80)
    mask = np.where(near, np.clip(saturation / peak, 0.0, 1.0), 0.0)
    mask[mask < 0.15] = 0.0  # what is left of a tinted ground would pull the center
    y, x = np.indices(mask.shape) + 0.5
    center = np.array([(mask * x).sum(), (mask * y).sum()]) / mask.sum()
    core = main & (saturation > _EDGE * peak)
    names = np.where(core, np.argmax(chroma @ _HUES.T, axis=-1), -1)
    colors = np.bincount(names[core], minlength=len(_HUES)) / core.sum()
    return _Spot(mask, center, colors, len(large) + _further_colors(names, scale))


def _further_colors(names: NDArray[np.intp], scale: float) -> int:
    """Colors but one that fill a good part of a spot in one piece: shapes that touch."""
    shares = np.bincount(names[names >= 0], minlength=len(_HUES))
    least = max(_OTHER_COLOR * shares.sum(), _LEAST_AREA_PX * scale**2)
    pieces = [ndimage.label(names == name)[0] for name in np.flatnonzero(shares >= least)]
    filled = sum(np.bincount(piece.ravel())[1:].max() >= least for piece in pieces)
    return max(0, int(filled) - 1)


def _motion(times: Floats, centers: Floats, scale: float) -> tuple[str | None, float, float]:
    """Direction, residual and speed of the best uniform motion through the centers [T, 2]."""
    if len(times) < 2:
        return None, 0.0, 0.0
    basis = np.stack([times, np.ones_like(times)], 1)
    line, *_ = np.linalg.lstsq(basis, centers, rcond=None)
    residual_px = float(np.sqrt(np.mean(np.sum((centers - basis @ line) ** 2, axis=1))))
    travel = line[0] * (times[-1] - times[0])
    speed_px = float(np.hypot(*line[0]))
    main = int(np.argmax(np.abs(travel)))
    if abs(travel[main]) < _LEAST_TRAVEL_PX * scale or abs(travel[1 - main]) > _STEEPEST * abs(travel[main]):
        return None, residual_px, speed_px
    step = (int(np.sign(travel[0])), 0) if main == 0 else (0, int(np.sign(travel[1])))
    return {way: name for name, way in scene.DIRECTIONS.items()}[step], residual_px, speed_px


def _aligned(masks: Sequence[Floats], centers: Floats, scale: float) -> Floats:
    """The shape's pictures [T, _PATCH, _PATCH], each with its center of mass in the middle."""
    grid = (np.arange(_PATCH) - _PATCH // 2) * scale - 0.5
    pictures = []
    for mask, (x, y) in zip(masks, centers, strict=True):
        rows, columns = np.meshgrid(y + grid, x + grid, indexing="ij")
        pictures.append(ndimage.map_coordinates(mask, [rows, columns], order=1, mode="constant"))
    return np.stack(pictures)


def _lasting_shape(pictures: Floats) -> tuple[str | None, float]:
    """The shape of the mean picture, if it fits and both halves of the clip agree on it; and how well it fits."""
    half = len(pictures) // 2
    parts = [pictures, pictures[:half], pictures[half:]]
    whole, *halves = _shapes(np.stack([part.mean(0) for part in parts if len(part)]))
    shape, fit = whole
    return (shape if fit >= _LEAST_FIT and {name for name, _ in halves} == {shape} else None), fit


def _shapes(pictures: Floats) -> list[tuple[str, float]]:
    """For each picture the template that explains most of its variance, and how much of it."""
    names, bank = _templates()
    rows = pictures.reshape(len(pictures), -1)
    rows = rows - rows.mean(1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    # Not BLAS: for so small a product its threads cost more than they save, many times more on a busy machine.
    alike = np.einsum("kp,np->kn", bank, rows)
    best = alike.argmax(0)
    return [(names[row], float(max(0.0, alike[row, column]) ** 2)) for column, row in enumerate(best)]


@lru_cache(maxsize=1)
def _templates() -> tuple[list[str], Floats]:
    """Every shape in many sizes, blurs and small shifts, each of mean zero and length one: names and [K, pixels]."""
    names, rows = [], []
    shifts = (-0.3, 0.0, 0.3)
    for shape, radius_px in itertools.product(scene.SHAPES, np.linspace(4.2, 8.8, 24)):
        for shift_x, shift_y in itertools.product(shifts, shifts):
            middle = (_PATCH / 2 + shift_x, _PATCH / 2 + shift_y)
            sharp = scene.coverage(shape, middle, radius_px / math.sqrt(scene.area(shape) / math.pi), _PATCH, _PATCH)
            for blur_px in (0.7, 1.0, 1.4):
                soft = ndimage.gaussian_filter(sharp.astype(np.float64), blur_px).ravel()
                soft -= soft.mean()
                names.append(shape)
                rows.append(soft / np.linalg.norm(soft))
    return names, np.stack(rows)


def _hues() -> Floats:
    """Unit vectors of the colors with their gray removed [6, 3]."""
    colors = np.array(list(scene.COLORS.values()), np.float64)
    chroma = colors - colors.mean(1, keepdims=True)
    return chroma / np.linalg.norm(chroma, axis=1, keepdims=True)


_COLOR_NAMES = list(scene.COLORS)
_HUES = _hues()
