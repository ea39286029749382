"""The fingerprint of a source: a few numbers about its picture, four times a second, that survive what copying does.

A sample is the low frequencies of the picture inside its black bars: 12 x 9 cosine coefficients of luma and 5 x 4 of
each chroma plane, without the means. Mirroring the picture flips signs of coefficients and cropping its border is a
linear map of them, so one fingerprint answers for every such copy and nothing is decoded twice.
"""

from contextlib import closing
from dataclasses import dataclass

import av.video.reformatter
import numpy as np
from av import VideoFrame
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from data_prep.decode import as_bytes, upright
from data_prep.spool import Spool

__all__ = [
    "DIMS",
    "RATE",
    "VERSION",
    "Fingerprint",
    "Fingerprinter",
    "MIRROR",
    "coefficients",
    "cropped",
    "of_pictures",
]

VERSION = 1
RATE = 4
_WIDTH, _HEIGHT, _CHROMA_STEP = 64, 36, 4
_LINES = 4  # of each row of cells
_EIGHT_BIT_PLANES = frozenset({"yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p"})
_LUMA, _CHROMA = (9, 12), (4, 5)  # vertical and horizontal frequencies
_PLANES = (_LUMA, _CHROMA, _CHROMA)
DIMS = sum(rows * columns - 1 for rows, columns in _PLANES)
_BLACK = 28  # codecs leave a bar at luma 16 to 20 with some ringing at its edge
_LEAST_BAR = 0.02
_AT_ONCE = 1024  # samples
_LONGEST_GAP = 3600 * RATE  # samples

Floats = NDArray[np.float32]
Pictures = Spool | list[NDArray[np.uint8]]
Small = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def _horizontal() -> NDArray[np.intp]:
    """Horizontal frequency of each coefficient [DIMS]."""
    return np.concatenate([np.tile(np.arange(columns), rows)[1:] for rows, columns in _PLANES])


MIRROR: Floats = np.where(_horizontal() % 2, -1, 1).astype(np.float32)
"""The coefficients [DIMS] of a mirrored picture are those of the picture times this."""


@dataclass(frozen=True)
class Fingerprint:
    """Samples of a source, RATE a second.

    Attributes:
        values: Coefficients as fractions of the largest of their sample, in 127ths, int8 [N, DIMS].
        scales: Gray levels of that largest one [N].
        box: Where the picture is inside the black bars: (left, top, right, bottom) as shares of width and height.

    """

    values: NDArray[np.int8]
    scales: NDArray[np.float16]
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)

    def __len__(self) -> int:
        return len(self.scales)

    @property
    def picture_share(self) -> float:
        """The part of the area inside the black bars."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)

    def floats(self) -> Floats:
        """Coefficients in gray levels [N, DIMS]."""
        return self.values.astype(np.float32) * (self.scales.astype(np.float32) / np.float32(127))[:, None]

    def to_bytes(self) -> bytes:
        """Scales, then values."""
        return self.scales.astype("<f2").tobytes() + self.values.tobytes()

    @staticmethod
    def from_bytes(data: bytes) -> "Fingerprint":
        """What `to_bytes` made; the box is not among it."""
        count = len(data) // (DIMS + 2)
        scales = np.frombuffer(data, "<f2", count)
        return Fingerprint(np.frombuffer(data, np.int8, offset=2 * count).reshape(count, DIMS), scales)


class Fingerprinter:
    """Takes small pictures during the decode pass.

    Thumbnails do not serve: the fast scaler that makes them samples points and shifts the picture by some percent.
    """

    def __init__(self) -> None:
        self._lumas, self._chromas = Spool(), Spool()
        self._last: Small | None = None
        self._passed_over = 0
        # Making a scaler costs more than a small picture; it is made again only when the size of the frames changes.
        self._scaler = av.video.reformatter.VideoReformatter()

    def look(self, frame: VideoFrame, time_s: float, rotation: int) -> None:
        """Take the frame if a sample is due; where no frame came for long, the last picture stood.

        A gap of more than an hour is a clock that jumped: samples go on as if it were none, and fill no disk.
        """
        late = int(np.floor((time_s + 2e-3) * RATE)) - len(self._lumas) - self._passed_over
        if late < 0:
            return
        if late > _LONGEST_GAP:
            self._passed_over, late = self._passed_over + late, 0
        if self._last is not None:
            for _ in range(late):
                self._take(*self._last)
        self._last = _turned(*self._small(frame), rotation)
        self._take(*self._last)

    def result(self) -> Fingerprint:
        """The fingerprint of what was seen; asked for once, in the end."""
        with closing(self._lumas), closing(self._chromas):
            return of_pictures(self._lumas, self._chromas)

    def _take(self, luma: NDArray[np.uint8], chroma: NDArray[np.uint8]) -> None:
        self._lumas.append(luma)
        self._chromas.append(chroma)

    def _small(self, frame: VideoFrame) -> Small:
        """Luma [36, 64] and both chroma planes [2, 9, 16]."""
        rows, columns = _HEIGHT // _CHROMA_STEP, _WIDTH // _CHROMA_STEP
        if frame.format.name in _EIGHT_BIT_PLANES and frame.width >= 4 * _WIDTH and frame.height >= 4 * _HEIGHT:
            luma, *chroma = frame.planes
            return _cells(luma, _HEIGHT, _WIDTH), np.stack([_cells(plane, rows, columns) for plane in chroma])
        small = self._scaler.reformat(frame, width=_WIDTH, height=_HEIGHT, format="yuv444p", interpolation="AREA")
        planes = as_bytes(small, "yuv444p")
        means = planes[1:].reshape(2, rows, _CHROMA_STEP, columns, _CHROMA_STEP).mean(axis=(2, 4))
        return planes[0], np.rint(means).astype(np.uint8)


def of_pictures(lumas: Pictures, chromas: Pictures) -> Fingerprint:
    """Of luma [h, w] in video range and both chroma planes [2, h', w'], all covering the whole picture."""
    box = _box(lumas)
    values, scales = [], []
    for start in range(0, len(lumas), _AT_ONCE):
        luma, chroma = np.array(lumas[start : start + _AT_ONCE]), np.array(chromas[start : start + _AT_ONCE])
        planes = [coefficients(luma, box, _LUMA), *(coefficients(chroma[:, k], box, _CHROMA) for k in (0, 1))]
        made = np.concatenate(planes, axis=1)
        scales.append(np.abs(made).max(axis=1).astype(np.float16))
        unit = made / np.maximum(scales[-1].astype(np.float32), 1e-3)[:, None]
        values.append(np.rint(127 * unit).clip(-127, 127).astype(np.int8))
    return Fingerprint(np.concatenate(values), np.concatenate(scales), box)


def coefficients(
    planes: NDArray[np.uint8], box: tuple[float, float, float, float], frequencies: tuple[int, int]
) -> Floats:
    """Cosine coefficients [N, rows * columns - 1] of planes [N, h, w] inside a box, as gray levels, without the mean.

    A pixel counts with the part of it that lies in the box, and the basis is orthonormal over the box.
    """
    left, top, right, bottom = box
    down = _cosines(frequencies[0], planes.shape[1], top, bottom)
    across = _cosines(frequencies[1], planes.shape[2], left, right)
    full = down @ planes.astype(np.float32) @ across.T
    return full.reshape(len(planes), -1)[:, 1:]


def cropped(share: float) -> Floats:
    """The map [DIMS, DIMS] from a picture's coefficients to those of its central part with this share of each side."""
    blocks = [np.kron(_recut(rows, share), _recut(columns, share))[1:, 1:] for rows, columns in _PLANES]
    whole = np.zeros((DIMS, DIMS), np.float32)
    start = 0
    for block in blocks:
        whole[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return whole


def _cells(plane: VideoPlane, rows: int, columns: int) -> NDArray[np.uint8]:
    """Means over a grid of a plane, from some of its lines: a fifth of what a scaler costs on large pictures."""
    # The stubs of PyAV do not say that a plane is a buffer.
    full = np.frombuffer(plane, np.uint8)  # type: ignore[call-overload]
    full = full.reshape(plane.height, plane.line_size)[:, : plane.width]
    lines = ((np.arange(rows * _LINES) + 0.5) * plane.height / (rows * _LINES)).astype(np.intp)
    edges = np.arange(columns + 1) * plane.width // columns
    sums = np.add.reduceat(full[lines], edges[:-1], axis=1, dtype=np.uint32).reshape(rows, _LINES, columns).sum(axis=1)
    return np.rint(sums / (_LINES * np.diff(edges))).astype(np.uint8)


def _turned(luma: NDArray[np.uint8], chroma: NDArray[np.uint8], rotation: int) -> Small:
    """As shown; turning needs the axes of the picture in front."""
    turned = upright(chroma.transpose(1, 2, 0), rotation).transpose(2, 0, 1)
    return np.ascontiguousarray(upright(luma, rotation)), np.ascontiguousarray(turned)


def _box(lumas: Pictures) -> tuple[float, float, float, float]:
    """The picture without the rows and columns that stay black from the first sample to the last."""
    most, sums = np.zeros_like(lumas[:1][0]), np.zeros(lumas[:1][0].shape, np.int64)
    for start in range(0, len(lumas), _AT_ONCE):
        luma = np.array(lumas[start : start + _AT_ONCE])
        most, sums = np.maximum(most, luma.max(axis=0)), sums + luma.sum(axis=0, dtype=np.int64)
    height, width = sums.shape
    top, bottom = _lit(most.max(axis=1), sums.sum(axis=1) / (len(lumas) * width))
    left, right = _lit(most.max(axis=0), sums.sum(axis=0) / (len(lumas) * height))
    return (left, top, right, bottom) if right > left and bottom > top else (0.0, 0.0, 1.0, 1.0)


def _lit(peaks: NDArray[np.uint8], means: NDArray[np.float64]) -> tuple[float, float]:
    """Begin and end of what is ever lit, as shares; a bar's last line is partly picture, and its mean says how much."""
    lit = np.flatnonzero(peaks > _BLACK)
    if len(lit) < 3:
        return 0.0, 1.0
    first, last, size = int(lit[0]), int(lit[-1]), len(peaks)
    begin = first + 1 - _part(means[first], means[first + 1]) if first else 0.0
    end = last + _part(means[last], means[last - 1]) if last + 1 < size else float(size)
    least = _LEAST_BAR * size
    return (begin / size if begin >= least else 0.0), (end / size if size - end >= least else 1.0)


def _part(edge: float, inside: float) -> float:
    return float(np.clip((edge - 16) / max(inside - 16, 1.0), 0, 1))


def _cosines(count: int, size: int, begin: float, end: float) -> Floats:
    """Integrals of the first cosines of [begin, end] over the pixels of a line, per length [count, size]."""
    edges = (np.clip(np.arange(size + 1) / size, begin, end) - begin) / (end - begin)
    k = np.arange(1, count)[:, None]
    waves = np.sqrt(2) * np.sin(np.pi * k * edges) / (np.pi * k)
    return np.diff(np.concatenate([edges[None], waves]), axis=1).astype(np.float32)


def _recut(count: int, share: float) -> NDArray[np.float64]:
    """Cosines of the middle `share` of a line by those of the line [count, count]; by the midpoint rule."""
    place = (np.arange(2048) + 0.5) / 2048

    def waves(x: NDArray[np.float64]) -> NDArray[np.float64]:
        k = np.arange(count)[:, None]
        return np.where(k == 0, 1.0, np.sqrt(2) * np.cos(np.pi * k * x))

    return waves(place) @ waves((1 - share) / 2 + share * place).T / len(place)
