"""Optical flow in source pixels a second, split into the camera's motion and that of objects.

Whole-pixel shifts of the thumbnails come from phase correlation (Kuglin and Hines 1975), what is left in each block of
the picture from least squares over its gradients (Lucas and Kanade 1981), pooled over a few frames because thumbnails
are coarse. The camera is the similarity (shift, zoom, roll) that most blocks follow, found by reweighted least squares
with Cauchy's weights as in Odobez and Bouthemy 1995, "Robust multiresolution estimation of parametric motion models";
objects are what does not follow it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from data_prep.view import SpanView

__all__ = ["VERSION", "WRITES", "score"]

VERSION = 1
WRITES = ("flow_px_s", "camera_px_s", "object_px_s")

_ROWS, _COLUMNS = 3, 6  # blocks
_POOLED_PAIRS = 5
_RIDGE = 1.0  # squared gray levels a pixel: gradients below that are noise
_TRUSTED = 4.0  # the weaker gradient's square of a block that counts half
_OUTLIER_PX = 0.15  # thumbnail pixels off the camera's motion that halve a block's say
_ROUNDS = 5

Floats = NDArray[np.floating]


class _Field(NamedTuple):
    """Displacements in thumbnail pixels a frame, and trust from 0 to 1, of each block [pairs, blocks]."""

    across: Floats
    down: Floats
    trust: Floats


def score(view: SpanView) -> dict[str, float | None]:
    """Means over the span; null for a span of one frame.

    `flow_px_s` is the mean length of the flow, `camera_px_s` of the camera's part, `object_px_s` of the rest.
    """
    duration_s = float(view.times_s[-1] - view.times_s[0])
    if len(view.luma) < 2 or duration_s <= 0:
        return dict.fromkeys(WRITES)
    field = _flow(view.luma)
    camera_across, camera_down = _camera(field, view.luma.shape[1:])
    down_px, across_px = view.px_per_thumb_px

    def mean_px(across: Floats, down: Floats, weights: Floats) -> float:
        lengths = np.hypot(across * across_px, down * down_px)
        return float(((weights * lengths).sum(1) / weights.sum(1)).sum() / duration_s)

    trust = field.trust + 1e-6
    return {
        "flow_px_s": mean_px(field.across, field.down, trust),
        "camera_px_s": mean_px(camera_across, camera_down, np.ones_like(trust)),
        "object_px_s": mean_px(field.across - camera_across, field.down - camera_down, trust),
    }


def _flow(luma: Floats) -> _Field:
    before = luma[:-1]
    after, shift_down, shift_across = _aligned(luma)
    middle, change = (before + after) / 2, after - before
    slope_x, slope_y = np.zeros_like(middle), np.zeros_like(middle)
    slope_x[:, :, 1:-1] = (middle[:, :, 2:] - middle[:, :, :-2]) / 2
    slope_y[:, 1:-1] = (middle[:, 2:] - middle[:, :-2]) / 2
    products = [slope_x * slope_x, slope_y * slope_y, slope_x * slope_y, slope_x * change, slope_y * change]
    xx, yy, xy, xt, yt = (_block_means(product) for product in products)
    # The shifts enter the normal equations, so that pairs of different shifts can be pooled.
    right_x = xx * shift_across + xy * shift_down - xt
    right_y = xy * shift_across + yy * shift_down - yt
    pooled = (
        ndimage.uniform_filter1d(s, _POOLED_PAIRS, axis=0, mode="nearest") for s in (xx, yy, xy, right_x, right_y)
    )
    xx, yy, xy, right_x, right_y = pooled
    scale = (xx + _RIDGE) * (yy + _RIDGE) - xy * xy
    across = ((yy + _RIDGE) * right_x - xy * right_y) / scale
    down = ((xx + _RIDGE) * right_y - xy * right_x) / scale
    weaker = (xx + yy) / 2 - np.sqrt((xx - yy) ** 2 / 4 + xy**2)
    return _Field(across, down, np.maximum(weaker, 0) / (np.maximum(weaker, 0) + _TRUSTED))


def _aligned(luma: Floats) -> tuple[Floats, Floats, Floats]:
    """Each frame but the first, moved back onto the one before it by whole pixels, and by how many [pairs, 1]."""
    _, height, width = luma.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32)
    spectra = fft.rfft2((luma - luma.mean((1, 2), keepdims=True)) * window)
    cross = spectra[1:] * np.conj(spectra[:-1])
    peaks = fft.irfft2(cross / (np.abs(cross) + 1e-3), s=(height, width)).reshape(len(cross), -1).argmax(1)
    down, across = np.divmod(peaks, width)
    down, across = (
        np.where(down > height // 2, down - height, down),
        np.where(across > width // 2, across - width, across),
    )
    after = luma[1:].copy()
    for dy, dx in sorted(set(zip(down.tolist(), across.tolist(), strict=True)) - {(0, 0)}):
        some = np.flatnonzero((down == dy) & (across == dx))
        moved = np.roll(luma[1:][some], (-dy, -dx), (1, 2))
        seen = (slice(None), slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx)))
        better = _distance(moved[seen], luma[some][seen]) < _distance(luma[1:][some], luma[some])
        after[some[better]] = moved[better]
        down[some[~better]] = across[some[~better]] = 0
    return after, down[:, None].astype(np.float32), across[:, None].astype(np.float32)


def _distance(a: Floats, b: Floats) -> Floats:
    return np.abs(a - b).mean((1, 2))


def _block_means(values: Floats) -> Floats:
    """[pairs, height, width] to [pairs, blocks]."""
    pairs, height, width = values.shape
    tall, wide = height // _ROWS, width // _COLUMNS
    cut = values[:, : tall * _ROWS, : wide * _COLUMNS].reshape(pairs, _ROWS, tall, _COLUMNS, wide)
    return cut.mean((2, 4)).reshape(pairs, -1)


def _camera(field: _Field, size: tuple[int, ...]) -> tuple[Floats, Floats]:
    """The part of each block's displacement that shift, zoom and roll of the whole picture explain [pairs, blocks]."""
    rows, columns = np.mgrid[:_ROWS, :_COLUMNS]
    down = ((rows + 0.5) / _ROWS - 0.5).ravel() * size[0] / size[1] * 2
    across = ((columns + 0.5) / _COLUMNS - 0.5).ravel() * 2
    one, none = np.ones_like(across), np.zeros_like(across)
    model = np.concatenate([np.stack([one, none, across, -down], 1), np.stack([none, one, down, across], 1)])
    seen = np.concatenate([field.across, field.down], 1)
    trust = field.trust + 1e-4
    outer = (model[:, :, None] * model[:, None, :]).reshape(len(model), -1)
    say = np.ones_like(trust)
    fitted = np.zeros_like(seen)
    for _ in range(_ROUNDS):
        weights = np.tile(trust * say, 2)
        squares = (weights @ outer).reshape(-1, 4, 4) + 1e-3 * np.eye(4)
        motion = np.linalg.solve(squares, (weights * seen @ model)[..., None])[..., 0]
        fitted = motion @ model.T
        off_across, off_down = np.split(seen - fitted, 2, axis=1)
        say = 1 / (1 + (off_across**2 + off_down**2) / _OUTLIER_PX**2)
    camera_across, camera_down = np.split(fitted, 2, axis=1)
    return camera_across, camera_down
