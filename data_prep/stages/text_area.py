"""Text area: share of the picture under lines of text that stay where they are, such as subtitles and watermarks.

Found without a model. Strokes are what a morphological opening of the width of a stroke takes away (a top-hat), once
for thin strokes of high contrast and once for thick ones of little; letters are connected strokes, and a line is five
or more of them in a row on one baseline, of like height and like gray (the grouping of Epshtein et al. 2010, "Detecting
text in natural scenes with stroke width transform", CVPR, section 3.3). Writing by hand, logos of few letters and
scripts whose letters are joined are not found; the scorer `detected_text` with a detector's weights is for those.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from data_prep.view import Picture, SpanView

__all__ = ["EVERY_S", "VERSION", "WRITES", "measure", "score"]

VERSION = 1
WRITES = ("text_area",)
EVERY_S = 2.0

_LINES_PX = 300  # pictures are shrunk by a whole number to about so many lines
_LEAST_LETTERS = 5
_LEAST_HEIGHT_PX = 6
_MOST_HEIGHT = 0.2  # of the picture
_SAME_PLACE = 0.5  # overlap over union of a line with itself two seconds later


class _Strokes(NamedTuple):
    """Strokes that survive an opening of `thin` px and not one of `thick` px, by `contrast` gray levels."""

    thin: int
    thick: int
    contrast: int


_SCALES = (_Strokes(2, 9, 24), _Strokes(4, 16, 10))
_WIDTHS = sorted({width for scale in _SCALES for width in scale[:2]})
_MARGIN = _WIDTHS[-1] - 1

Boxes = NDArray[np.float64]


def measure(picture: Picture) -> Boxes:
    """Lines of text in one picture as (top, bottom, left, right) in shares of it [lines, 4]."""
    shrink = max(1, round(picture.luma.shape[0] / _LINES_PX))
    luma = picture.luma
    if shrink > 1:
        luma = np.asarray(Image.fromarray(np.ascontiguousarray(luma)).reduce(shrink))
    if min(luma.shape) <= 2 * _MARGIN:
        return np.zeros((0, 4))
    found = [_line_boxes(mask, luma) for bright_on_dark in (luma, 255 - luma) for mask in _stroke_masks(bright_on_dark)]
    height, width = luma.shape
    return np.concatenate(found) / [height, height, width, width]


def score(view: SpanView) -> dict[str, float | None]:
    """Mean over the span's pictures of what a line covers that is also in the next picture; one picture stands alone.

    Null when no picture was looked at.
    """
    pictures: tuple[Boxes, ...] = view.measures.get("text_area", ())
    if not pictures:
        return {"text_area": None}
    if len(pictures) == 1:
        return {"text_area": _covered(pictures[0])}
    areas = [_covered(here[_seen_in(here, there)]) for here, there in zip(pictures[:-1], pictures[1:], strict=True)]
    return {"text_area": float(np.mean(areas))}


def _stroke_masks(luma: NDArray[np.uint8]) -> list[NDArray[np.bool_]]:
    """Where there are bright strokes, by scale."""
    height, width = luma.shape
    shrunk = np.pad(luma, _MARGIN, mode="edge")
    opened: dict[int, NDArray[np.uint8]] = {}
    last = 1
    for size in _WIDTHS:
        # An erosion by 9 is one by 4 and one by 6: each width continues where the last one ended.
        shrunk, last = _box(shrunk, size - last + 1, np.minimum), size
        grown = _box(shrunk, size, np.maximum)
        edge = _MARGIN - (size - 1)
        opened[size] = grown[edge : edge + height, edge : edge + width]
    return [opened[scale.thin] - opened[scale.thick] > scale.contrast for scale in _SCALES]


def _box(luma: NDArray[np.uint8], size: int, extreme: Callable[..., NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Extreme over each `size` x `size` box; smaller by `size` - 1, with doubling windows as van Herk's idea."""
    for _ in range(2):
        window, lines = 1, luma
        while window < size:
            step = min(window, size - window)
            lines, window = extreme(lines[:-step], lines[step:]), window + step
        luma = lines.T
    return luma


def _line_boxes(mask: NDArray[np.bool_], luma: NDArray[np.uint8]) -> Boxes:
    """Boxes (top, bottom, left, right) in px of the rows of letters among connected strokes."""
    labels, count = ndimage.label(mask)
    if count < _LEAST_LETTERS:
        return np.zeros((0, 4))
    places = ndimage.find_objects(labels)
    boxes = np.array([(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in places])
    height, width = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    letters = (height >= _LEAST_HEIGHT_PX) & (height <= _MOST_HEIGHT * len(mask))
    letters &= (width <= 2.5 * height) & (width >= 0.12 * height)
    order = np.argsort(boxes[:, 2], kind="stable")
    if not _rows(boxes[order[letters[order]]]):
        return np.zeros((0, 4))  # most pictures: no need to look at grays
    inside = np.flatnonzero(np.concatenate([[False], letters])[labels])
    strokes = labels.ravel()[inside]
    areas = np.bincount(strokes, minlength=count + 1)[1:]
    letters &= areas > 0.2 * height * width
    grays = np.bincount(strokes, luma.ravel()[inside], minlength=count + 1)[1:] / np.maximum(areas, 1)
    order = order[letters[order]]
    rows = _rows(boxes[order], grays[order])
    return np.array(
        [(boxes[row, 0].min(), boxes[row, 1].max(), boxes[row, 2].min(), boxes[row, 3].max())
         for row in (order[places] for places in rows)], np.float64
    ).reshape(-1, 4)  # fmt: skip


def _rows(boxes: NDArray[np.int_], grays: NDArray[np.float64] | None = None) -> list[list[int]]:
    """Chains of at least five letters, each the right neighbor of the one before; letters are sorted by their left."""
    top, bottom, left, right = boxes.T
    height = bottom - top
    tall, short = np.maximum(height[:, None], height), np.minimum(height[:, None], height)
    gap = left - right[:, None]
    next_to = np.abs(bottom[:, None] - bottom) <= np.maximum(0.12 * tall, 1.0)
    next_to &= (tall <= 1.7 * short) & (gap >= -0.1 * tall) & (gap <= 0.8 * tall) & (left > left[:, None])
    if grays is not None:
        next_to &= np.abs(grays[:, None] - grays) < 30
    length, before = [1] * len(boxes), [-1] * len(boxes)
    # A letter's neighbors lie left of it, so their chains are complete when it is reached.
    for letter, neighbor in np.argwhere(next_to.T).tolist():
        if length[neighbor] >= length[letter]:
            before[letter], length[letter] = neighbor, length[neighbor] + 1
    if max(length, default=0) < _LEAST_LETTERS:
        return []
    rows: list[list[int]] = []
    used: set[int] = {-1}
    for last in np.argsort(np.negative(length), kind="stable").tolist():
        row, letter = [], last
        while letter not in used:
            row.append(letter)
            used.add(letter)
            letter = before[letter]
        if len(row) >= _LEAST_LETTERS:
            rows.append(row[::-1])
    return rows


def _covered(boxes: Boxes) -> float:
    """Share of the picture under boxes, an overlap counted once, on a grid of 1/256."""
    grid = np.zeros((256, 256), bool)
    for top, bottom, left, right in (boxes * 256).round().astype(int).tolist():
        grid[top:bottom, left:right] = True
    return float(grid.mean())


def _seen_in(here: Boxes, there: Boxes) -> NDArray[np.bool_]:
    """Which boxes of one picture lie, most of them, where another picture has one."""
    low, high = np.maximum(here[:, None], there), np.minimum(here[:, None], there)
    sides = np.maximum(0, high[..., 1] - low[..., 0]), np.maximum(0, high[..., 3] - low[..., 2])
    shared = sides[0] * sides[1]
    union = _areas(here)[:, None] + _areas(there) - shared
    return (shared > _SAME_PLACE * union).any(1)


def _areas(boxes: Boxes) -> Boxes:
    return (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
