"""Where clips lie in a shot, and in which of the shapes that are wanted."""

import hashlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.settings import DataSettings
from vidgen_core.clip import parse_rate

__all__ = ["TELLING", "Lit", "Place", "clip_id", "clip_places", "lengths", "sample_times", "shape_of", "suitable"]

TELLING = ("clip_id", "source_id", "start_pts", "stop_pts")
"""Columns of a span that tell its shape."""
_SLACK_S = 1e-6


class Lit(NamedTuple):
    """The part of an upright picture that bars leave, in px as it is shown: a pixel is as wide as it is high."""

    width: Fraction
    height: Fraction


class Place(NamedTuple):
    """The first frame of a clip, as an index of source frames, and the settings of its shape."""

    start: int
    made: DataSettings


def sample_times(settings: DataSettings) -> NDArray[np.float64]:
    """When a clip's frames are taken, in seconds from its start [frames]."""
    return np.arange(settings.frames) / float(parse_rate(settings.frame_rate))


def clip_id(source_id: str, start_pts: int, stop_pts: int, settings: DataSettings) -> str:
    """Content id of a clip: its source, its span in stream time, and how it is made."""
    made = (settings.frames, settings.height, settings.width, settings.frame_rate)
    return hashlib.sha256(repr((source_id, start_pts, stop_pts, made)).encode()).hexdigest()[:24]


def shape_of(span: Mapping[str, Any], shapes: Sequence[DataSettings]) -> DataSettings:
    """The settings of a span's shape, which its id tells; the first where it is of none of these shapes."""
    if len(shapes) > 1:
        where = span["source_id"], span["start_pts"], span["stop_pts"]
        for one in shapes:
            if clip_id(*where, one) == span["clip_id"]:
                return one
    return shapes[0]


def lengths(spans: pa.Table, settings: DataSettings) -> int | NDArray[np.int64]:
    """Frames of a clip, or where they are of several shapes those of each span [N]."""
    shapes = settings.each_shape()
    if len(shapes) == 1:
        return settings.frames
    return np.array([shape_of(row, shapes).frames for row in spans.select(TELLING).to_pylist()], np.int64)


def suitable(shapes: Sequence[DataSettings], lit: Lit) -> list[DataSettings]:
    """Shapes in the order in which they suit a picture.

    The nearest aspect comes first, by the share of the picture that it cuts away; of one aspect the longest; of one
    length the largest that the picture fills without being enlarged.
    """

    def rank(made: DataSettings) -> tuple[Fraction, int, bool, int]:
        wide, high = made.width / lit.width, made.height / lit.height
        enlarged = max(wide, high) > 1
        pixels = made.height * made.width
        return max(wide / high, high / wide), -made.frames, enlarged, pixels if enlarged else -pixels

    return sorted(shapes, key=rank)


def clip_places(
    times_s: NDArray[np.float64], first: int, stop: int, lit: Lit, shapes: Sequence[DataSettings]
) -> list[Place]:
    """The clips that fit into the shot [first, stop) one after the other.

    All are of one aspect: the nearest to that of the shot's picture among shapes that the shot holds. At each place
    the longest of these comes that what is left of the shot holds.

    Args:
        times_s: When each frame of the source is shown.
        first, stop: Frames of the shot.
        lit: What is seen of its picture.
        shapes: The settings of each shape.

    """
    reaches_s = [float(sample_times(made)[-1]) for made in shapes]
    reach_s = dict(zip(map(_shape, shapes), reaches_s, strict=True))

    def held(start: int, made: DataSettings) -> bool:
        return start < stop and times_s[start] + reach_s[_shape(made)] <= times_s[stop - 1] + _SLACK_S

    ranked = [made for made in suitable(shapes, lit) if held(first, made)]
    alike = [made for made in ranked if made.width * ranked[0].height == ranked[0].width * made.height]
    places: list[Place] = []
    begin_s = times_s[first]
    while True:
        start = int(np.searchsorted(times_s, begin_s - _SLACK_S))
        fits = next((made for made in alike if held(start, made)), None)
        if fits is None:
            return places
        places.append(Place(start, fits))
        begin_s = times_s[start] + (reach_s[_shape(fits)] + 1 / float(parse_rate(fits.frame_rate)))


def _shape(settings: DataSettings) -> tuple[int, int, int]:
    return settings.frames, settings.height, settings.width
