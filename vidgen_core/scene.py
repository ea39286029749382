"""The small world of the sample videos: one shape, its color, its way of moving, and the sentence that says so.

What draws the videos and what checks generated ones both read this file, so that they agree on every word and every
edge. Lengths are in units of the picture's side: a value of 5 / 32 is 5 pixels of a 32 pixel clip, 20 of a 128 pixel
video. The center of a shape is its center of mass.
"""

import math
import re
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidgen_core.frozen import Frozen

__all__ = [
    "BOUNCES",
    "CLASSES",
    "COLORS",
    "DIRECTIONS",
    "RADII",
    "SHAPES",
    "SPEEDS",
    "Description",
    "Manner",
    "area",
    "class_of",
    "coverage",
    "extent",
    "parse",
    "prompts",
]

Floats = NDArray[np.float32]
Manner = Literal["moves", "bounces", "stands still"]

SHAPES = ("circle", "square", "triangle")
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (224, 40, 44),
    "green": (40, 184, 56),
    "blue": (44, 76, 232),
    "yellow": (238, 212, 36),
    "purple": (158, 48, 208),
    "cyan": (36, 204, 220),
}
DIRECTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
BOUNCES: dict[str, tuple[int, int]] = {"left and right": (1, 0), "up and down": (0, 1)}
# Ranges (low, high). Sizes and speeds leave a gap, so that a word is never a matter of taste; the largest and quickest
# shape still crosses the picture in no less than 30 frames of 24 a second. At 32 pixels the corners that make a square
# of a circle are a pixel each: smaller shapes are told apart by the checker, but hardly by a small model in minutes.
RADII: dict[str, tuple[float, float]] = {"small": (5.4 / 32, 6.0 / 32), "large": (7.0 / 32, 7.6 / 32)}
SPEEDS: dict[str, tuple[float, float]] = {"slow": (6.4 / 32, 7.4 / 32), "quick": (9.8 / 32, 10.8 / 32)}  # per second
# What classifiers of clips learn: the kinds of shape that move in one direction.
CLASSES = tuple((shape, direction) for shape in SHAPES for direction in DIRECTIONS)
_ADVERBS = {"slow": "slowly", "quick": "quickly"}

# Half sides relative to the radius, chosen so that areas are close and the size of a shape does not give away its kind.
_SQUARE = 0.87
_TRIANGLE_HALF_WIDTH = 1.2
_TRIANGLE_HEIGHT = 2.25
_PARTS = 8


class Description(Frozen):
    """One shape and what it does. An optional attribute that is None is unsaid.

    Args:
        color: A key of `COLORS`.
        shape: One of `SHAPES`.
        manner: What it does.
        direction: A key of `DIRECTIONS` when it moves, of `BOUNCES` when it bounces, None when it stands still.
        size: A key of `RADII`, or None.
        speed: A key of `SPEEDS`, or None.

    """

    color: str
    shape: str
    manner: Manner
    direction: str | None = None
    size: str | None = None
    speed: str | None = None

    def caption(self) -> str:
        """The sentence; `parse` reads it back."""
        words = ["a", self.size, self.color, self.shape, self.manner, self.direction]
        if self.speed is not None:
            words.append(_ADVERBS[self.speed])
        return " ".join(word for word in words if word is not None)

    def unsaid(self, *, size: bool, speed: bool) -> "Description":
        """The same description without its size or without its speed."""
        return self.model_copy(update={"size": None if size else self.size, "speed": None if speed else self.speed})


def _one_of(words: Iterable[str]) -> str:
    return "|".join(words)


_SENTENCE = re.compile(
    rf"an? (?:(?P<size>{_one_of(RADII)}) )?(?P<color>{_one_of(COLORS)}) (?P<shape>{_one_of(SHAPES)}) "
    rf"(?:(?P<moves>moves) (?P<direction>{_one_of(DIRECTIONS)})"
    rf"|(?P<bounces>bounces) (?P<axis>{_one_of(BOUNCES)})|(?P<stands>stands still))"
    rf"(?: (?P<adverb>{_one_of(_ADVERBS.values())}))?"
)


def parse(caption: str) -> Description | None:
    """Read a caption; None when it is not a sentence of this world. Case, spaces and a final period do not matter."""
    found = _SENTENCE.fullmatch(" ".join(caption.lower().split()).removesuffix("."))
    if found is None or (found["stands"] and found["adverb"]):
        return None
    manner: Manner = "moves" if found["moves"] else "bounces" if found["bounces"] else "stands still"
    speeds = {adverb: speed for speed, adverb in _ADVERBS.items()}
    return Description(
        color=found["color"],
        shape=found["shape"],
        manner=manner,
        direction=found["direction"] or found["axis"],
        size=found["size"],
        speed=speeds.get(found["adverb"] or ""),
    )


def class_of(caption: str) -> int | None:
    """The number among `CLASSES` of what a caption says; None of what bounces, stands still or is not of this world."""
    said = parse(caption)
    pair = None if said is None or said.manner != "moves" else (said.shape, str(said.direction))
    return None if pair is None else CLASSES.index(pair)


def prompts(count: int, seed: int) -> list[str]:
    """Sentences like "a red square moves left", balanced over color, shape and direction.

    Each 72 in a row name every combination once, and any six in a row name every color.
    """
    rng = np.random.default_rng([seed, 0x9E3779B9])
    colors, shapes = rng.permutation(list(COLORS)), rng.permutation(SHAPES)
    directions, turns = rng.permutation(list(DIRECTIONS)), rng.permutation(12)
    sentences = []
    for place in range(count):
        color = place % 6
        # 3 and 4 have no common factor, so the twelve turns name each (shape, direction) once for each color.
        turn = int(turns[place // 6 % 12]) + color
        described = Description(
            color=str(colors[color]),
            shape=str(shapes[turn % 3]),
            manner="moves",
            direction=str(directions[turn % 4]),
        )
        sentences.append(described.caption())
    return sentences


def area(shape: str) -> float:
    """Area of a shape of radius 1."""
    areas = {"circle": math.pi, "square": (2 * _SQUARE) ** 2, "triangle": _TRIANGLE_HALF_WIDTH * _TRIANGLE_HEIGHT}
    return areas[shape]


def extent(shape: str) -> tuple[float, float, float, float]:
    """How far a shape of radius 1 reaches from its center: (left, right, up, down)."""
    up = _TRIANGLE_HEIGHT * 2 / 3
    reaches = {
        "circle": (1.0, 1.0, 1.0, 1.0),
        "square": (_SQUARE, _SQUARE, _SQUARE, _SQUARE),
        "triangle": (_TRIANGLE_HALF_WIDTH, _TRIANGLE_HALF_WIDTH, up, _TRIANGLE_HEIGHT - up),
    }
    return reaches[shape]


def coverage(shape: str, center_xy: tuple[float, float], radius_px: float, height: int, width: int) -> Floats:
    """Share of each pixel [height, width] that a shape covers: its anti-aliased picture, values in [0, 1].

    Pixel (row, column) spans [column, column + 1) x [row, row + 1). The square is exact, the triangle nearly; the edge
    of the circle is straight within a pixel, and linear across it.
    """
    x = np.arange(width, dtype=np.float32) + np.float32(0.5 - center_xy[0])
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5 - center_xy[1])
    return _COVERS[shape](x, y, radius_px)


def _circle(x: Floats, y: Floats, radius_px: float) -> Floats:
    return _inside(np.hypot(x, y, dtype=np.float32) - np.float32(radius_px), 1.0)


def _square(x: Floats, y: Floats, radius_px: float) -> Floats:
    half = _SQUARE * radius_px
    return _overlap(x, -half, half) * _overlap(y, -half, half)


def _triangle(x: Floats, y: Floats, radius_px: float) -> Floats:
    _, reach, up, down = (part * radius_px for part in extent("triangle"))
    # Exact down each column of a pixel's parts, of which there are enough for an error below a hundredth.
    parts = x[..., None] + (np.arange(_PARTS, dtype=np.float32) + 0.5) / _PARTS - np.float32(0.5)
    slant = np.abs(parts) * np.float32((up + down) / reach) - np.float32(up)
    return _overlap(y[..., None], slant, down).mean(-1)


def _overlap(middle: Floats, low: float | Floats, high: float) -> Floats:
    """Length of each unit interval around `middle` that lies in [low, high]."""
    return np.clip(np.minimum(middle + 0.5, high) - np.maximum(middle - 0.5, low), 0.0, 1.0).astype(np.float32)


def _inside(distance: Floats, softness: float) -> Floats:
    """Coverage from the signed distance to an edge, falling from 1 to 0 over `softness` pixels."""
    return np.clip(0.5 - distance / softness, 0.0, 1.0).astype(np.float32)


_COVERS = {"circle": _circle, "square": _square, "triangle": _triangle}
