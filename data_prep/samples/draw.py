"""Draw a planned film: gray grounds, one anti-aliased shape, dissolves, bars."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.samples.plan import SIDE_PX, Film, Ground, Shot
from vidgen_core import scene

__all__ = ["frames"]

Picture = NDArray[np.float32]


def frames(film: Film) -> Iterator[NDArray[np.uint8]]:
    """Every frame of the file, uint8 [height, width, 3]."""
    width, height = film.size_px
    left, top, picture_width, picture_height = film.picture
    for picture in _pictures(film.shots):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[top : top + picture_height, left : left + picture_width] = np.rint(picture)
        yield frame


def _pictures(shots: tuple[Shot, ...]) -> Iterator[Picture]:
    """The pictures without bars; a dissolve mixes the end of one shot with the beginning of the next."""
    leaving: list[Picture] = []
    for shot in shots:
        taken = _take(shot)
        for place, (before, after) in enumerate(zip(leaving, taken, strict=False)):
            share = np.float32((place + 1) / (len(leaving) + 1))
            yield before * (1 - share) + after * share
        last = len(taken) - shot.lead_out
        yield from taken[shot.lead_in : last]
        leaving = taken[last:]


def _take(shot: Shot) -> list[Picture]:
    ground = _ground(shot)
    color = np.array(shot.color, np.float32)
    pictures = []
    for x, y in shot.centers:
        cover = scene.coverage(shot.description.shape, (x, y), shot.radius_px, SIDE_PX, SIDE_PX)[..., None]
        pictures.append(ground + cover * (color - ground))
    return pictures


def _ground(shot: Shot) -> Picture:
    """A still gray picture [SIDE_PX, SIDE_PX, 3]; its slight tint is far from the saturation of any shape."""
    rng = np.random.default_rng(shot.ground_seed)
    relief = _TEXTURES[shot.ground](rng)
    tint = rng.uniform(-4, 4, 3)
    gray = shot.level + rng.uniform(10, 22) * relief
    return np.clip(gray[..., None] + tint, 16, 240).astype(np.float32)


def _plain(_: np.random.Generator) -> NDArray[np.float64]:
    return np.zeros((SIDE_PX, SIDE_PX))


def _gradient(rng: np.random.Generator) -> NDArray[np.float64]:
    return 1.4 * _slope(rng)


def _stripes(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.sin(_slope(rng) * np.pi * rng.uniform(4, 9))


def _checks(rng: np.random.Generator) -> NDArray[np.float64]:
    x, y = _axes()
    cycles = rng.uniform(2, 4)
    # The steep sine keeps the edges of the checks about two pixels soft, as a camera would.
    return np.tanh(6 * np.sin(np.pi * cycles * x) * np.sin(np.pi * cycles * y))


def _clouds(rng: np.random.Generator) -> NDArray[np.float64]:
    return _noise(rng, 6) + 0.5 * _noise(rng, 12)


def _grain(rng: np.random.Generator) -> NDArray[np.float64]:
    return 0.5 * _noise(rng, 64)


_TEXTURES: dict[Ground, Callable[[np.random.Generator], NDArray[np.float64]]] = {
    "plain": _plain,
    "gradient": _gradient,
    "stripes": _stripes,
    "checks": _checks,
    "clouds": _clouds,
    "grain": _grain,
}


def _axes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    axis = np.linspace(-1, 1, SIDE_PX)
    return axis[None, :], axis[:, None]


def _slope(rng: np.random.Generator) -> NDArray[np.float64]:
    """A plane rising in a random direction, about -1 to 1."""
    x, y = _axes()
    angle = rng.uniform(0, 2 * np.pi)
    return np.cos(angle) * x + np.sin(angle) * y


def _noise(rng: np.random.Generator, cells: int) -> NDArray[np.float64]:
    """Smooth noise with so many cells a side, about -1 to 1."""
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC), np.float64)
