"""What the thumbnail detector sees of a frame: coarse colors, and a small gray picture that no exposure changes."""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from data_prep.shot_detectors._contract import Thumbs

__all__ = ["PLAIN", "Light", "Pictures", "light", "matched", "pictures"]

_CELLS = 9 * 12 * 3
_GRAY = (13, 24)
PLAIN = 6.0  # gray levels of deviation below which a picture counts as one color, and its noise is not stretched
_LEVELS_A_RANK = 3.46  # a deviation of 1 spreads evenly distributed values over so much
_LEAST_EXPLAINED = 0.6  # of a change of levels is explained by ranks when another scene shows
_SAME_FORM, _OTHER_FORM = 0.12, 0.25  # of forms: below the one no other scene shows, above the other certainly
_SAME_ORDER = 0.38
_REACH = (1, 3)  # how far a block is searched, in pixels of the gray picture: an eighth of its width
_BLOCKS = (3, 5)
_PAIRS_AT_ONCE = 64  # their moved pictures fit a processor's cache

Vectors = NDArray[np.float32]  # [frames, numbers]


class Pictures(NamedTuple):
    """All frames of a stretch.

    Attributes:
        cells: Mean color of each of 9 x 12 cells, gray levels [frames, 324].
        forms: Luma at 13 x 24, each pixel replaced by its rank among those of its picture, -0.5 to 0.5 [frames, 312].
            Gain, gamma and clipping leave it nearly as it is; unrelated pictures differ by 1/3 on average.
        spread: Deviation of luma, gray levels [frames].

    """

    cells: Vectors
    forms: Vectors
    spread: NDArray[np.float32]


def pictures(thumbs: Thumbs) -> Pictures:
    """Look at thumbnails."""
    frames = len(thumbs)
    rows = thumbs.reshape(frames, 27, 48 * 3).astype(np.float32)
    # Sums over neighboring pixels as matrix products: far quicker than means over axes of three or four.
    cells = (rows.reshape(frames, 9, 3, -1).sum(2) @ _TO_CELLS).reshape(frames, _CELLS)
    gray = (rows[:, :26].reshape(frames, 13, 2, -1).sum(2) @ _TO_GRAY).reshape(frames, -1)
    spread = gray.std(1)
    return Pictures(cells, _ranks(gray) * np.minimum(1, spread / PLAIN)[:, None], spread)


class Light(NamedTuple):
    """What another exposure would explain of pairs of pictures [pairs].

    Attributes:
        explained: Change of levels that the change of ranks explains, over all of it, at most 1.
        order: 0 where the one picture's levels are a function of the other's, 1 where the pictures are unrelated.

    """

    explained: NDArray[np.float64]
    order: NDArray[np.float64]

    def alone(self, form: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether nothing but the exposure changed: levels far more than ranks, and the order of places hardly."""
        same = (form < _SAME_FORM) | ((form < _OTHER_FORM) & (self.order < _SAME_ORDER))
        return same & (self.explained < _LEAST_EXPLAINED)


def light(
    seen: Pictures,
    these: NDArray[np.intp],
    others: NDArray[np.intp],
    *,
    change: NDArray[np.floating],
    form: NDArray[np.floating],
) -> Light:
    """Compare pairs that differ by `change` in levels and by `form` in ranks; a plain picture explains nothing."""
    spread = np.minimum(seen.spread[these], seen.spread[others])
    explained = np.minimum(1, _LEVELS_A_RANK * spread * form / change)
    order = np.ones(len(these))
    unsure = np.flatnonzero((spread > PLAIN) & (form < _OTHER_FORM) & (explained < _LEAST_EXPLAINED))
    order[unsure] = 1 - _dependence(seen.forms[these[unsure]], seen.forms[others[unsure]])
    return Light(np.where(spread > PLAIN, explained, 1), order)


def _dependence(these: Vectors, others: Vectors) -> NDArray[np.float32]:
    """Chatterjee 2021 (arXiv:1909.10140), equation 1: 1 where the one is a function of the other, 0 where unrelated.

    The larger of both directions, since a picture that clips is a function of one that does not, and not the reverse.
    Ties are broken by chance: in the order of pixels, a black border would make anything smooth a function of it.
    """
    these, others = these[:, _SHUFFLED], others[:, _SHUFFLED]
    forth = np.take_along_axis(others, np.argsort(these, axis=1, kind="stable"), axis=1)
    back = np.take_along_axis(these, np.argsort(others, axis=1, kind="stable"), axis=1)
    jumps = np.minimum(np.abs(np.diff(forth, axis=1)).mean(1), np.abs(np.diff(back, axis=1)).mean(1))
    return 1 - 3 * jumps


def matched(these: Vectors, others: Vectors) -> NDArray[np.float32]:
    """Difference of pairs of forms when each block of the one may move in the other [pairs]; symmetric."""
    both = _one_way(np.concatenate([these, others]), np.concatenate([others, these]))
    return np.minimum(both[: len(these)], both[len(these) :])


def _one_way(these: Vectors, others: Vectors) -> NDArray[np.float32]:
    out = [
        _best_moves(these[at : at + _PAIRS_AT_ONCE], others[at : at + _PAIRS_AT_ONCE])
        for at in range(0, len(these), _PAIRS_AT_ONCE)
    ]
    return np.concatenate(out) if out else np.zeros(0, np.float32)


def _best_moves(these: Vectors, others: Vectors) -> NDArray[np.float32]:
    pairs, (height, width), (down, across) = len(these), _GRAY, _REACH
    rows = np.arange(-down, height + down).clip(0, height - 1)
    columns = np.arange(-across, width + across).clip(0, width - 1)
    around = others.reshape(pairs, height, width)[:, rows[:, None], columns]
    moved = sliding_window_view(around, _GRAY, axis=(1, 2))
    differences = moved - these.reshape(pairs, 1, 1, height, width)
    np.abs(differences, out=differences)
    # A product for each pair is too small for a library of linear algebra to wake its threads, which cost more than it.
    return (differences.reshape(pairs, -1, height * width) @ _TO_BLOCKS).min(1).mean(1)


def _ranks(gray: Vectors) -> Vectors:
    """Equalized histograms; equal values share the middle of their ranks."""
    frames, pixels = gray.shape
    levels = (gray + 0.5).astype(np.int64)
    counts = np.bincount((levels + 256 * np.arange(frames)[:, None]).ravel(), minlength=256 * frames)
    counts = counts.reshape(frames, 256).astype(np.float32)
    ranks = (np.cumsum(counts, axis=1) - counts / 2) / pixels - 0.5
    return np.take_along_axis(ranks, levels, axis=1)


def _to_cells() -> Vectors:
    out = np.zeros((48, 3, 12, 3), np.float32)
    for x in range(48):
        out[x, [0, 1, 2], x // 4, [0, 1, 2]] = 1 / 12
    return out.reshape(144, 36)


def _to_gray() -> Vectors:
    out = np.zeros((48, 3, 24), np.float32)
    for x in range(48):
        out[x, :, x // 2] = np.array([0.299, 0.587, 0.114]) / 4
    return out.reshape(144, 24)


def _to_blocks() -> Vectors:
    out = np.zeros((*_GRAY, *_BLOCKS), np.float32)
    for y in range(_GRAY[0]):
        for x in range(_GRAY[1]):
            out[y, x, min(y // 5, 2), min(x // 5, 4)] = 1
    flat = out.reshape(-1, _BLOCKS[0] * _BLOCKS[1])
    return flat / flat.sum(0)


_SHUFFLED = np.random.default_rng(0).permutation(_GRAY[0] * _GRAY[1])
_TO_CELLS, _TO_GRAY, _TO_BLOCKS = _to_cells(), _to_gray(), _to_blocks()
