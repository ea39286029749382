"""Faces by YuNet. Wu, Peng and Yu 2023, "YuNet: a tiny millisecond-level face detector".

Machine Intelligence Research 20. At each place of the grids of 8, 16 and 32 px the model gives the probabilities of a
face and of an object there, and a box as an offset in steps of the grid and the logarithm of its size; a face's score
is their geometric mean.
"""

import numpy as np
from numpy.typing import NDArray

from data_prep.score_settings import ScoreSettings
from data_prep.scorers._onnx import open_session, resized
from data_prep.scorers._weights import Scorer, Stills, file_digest
from vidgen_core import digests

__all__ = ["READS_CAPTION", "VERSION", "WRITES", "Faces", "digest", "open_scorer"]

VERSION = 1
WRITES = ("faces", "face_area")
READS_CAPTION = False

_STRIDES = (8, 16, 32)
_SAME_FACE = 0.3  # overlap over union

Boxes = NDArray[np.float64]


def digest(settings: ScoreSettings) -> str:
    """Of the model and the threshold."""
    return digests.of_value([file_digest(settings.faces.weights, "faces"), settings.faces.threshold])


def open_scorer(settings: ScoreSettings) -> Scorer:
    """Read the model.

    Raises:
        VidgenError: It cannot be read.

    """
    return Faces(settings)


class Faces:
    """`faces`: the most in a still; `face_area`: the mean share of the picture that is under faces."""

    def __init__(self, settings: ScoreSettings) -> None:
        self._session, self._threshold = open_session(settings.faces.weights), settings.faces.threshold
        self._input = self._session.get_inputs()[0]
        # Models with free sizes have names there.
        height, width = self._input.shape[2:]
        self._size = (height, width) if isinstance(height, int) and isinstance(width, int) else (320, 320)

    def score(self, stills: Stills, caption: str) -> dict[str, float | None]:  # noqa: ARG002
        """See `Scorer`."""
        found = [self.find(still) for still in stills]
        areas = [((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum() for boxes in found]
        return {"faces": float(max(map(len, found))), "face_area": float(min(1.0, np.mean(areas)))}

    def find(self, picture: NDArray[np.uint8]) -> Boxes:
        """Boxes of faces (left, top, right, bottom) in shares of a picture [H, W, 3] in RGB; the surest first."""
        height, width = picture.shape[:2]
        scale = min(self._size[0] / height, self._size[1] / width)
        shown = max(1, round(height * scale)), max(1, round(width * scale))
        canvas = np.zeros((*self._size, 3), np.float32)
        canvas[: shown[0], : shown[1]] = resized(picture, *shown)[..., ::-1]
        names = [f"{kind}_{stride}" for stride in _STRIDES for kind in ("cls", "obj", "bbox")]
        outputs = self._session.run(names, {self._input.name: canvas.transpose(2, 0, 1)[None]})
        parts = [_decoded(outputs[at : at + 3], stride, self._size[1])
                 for at, stride in zip(range(0, len(names), 3), _STRIDES, strict=True)]  # fmt: skip
        boxes, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
        sure = np.flatnonzero(scores >= self._threshold)
        kept = _without_repeats(boxes[sure[np.argsort(-scores[sure], kind="stable")]])
        return np.clip(kept / [shown[1], shown[0], shown[1], shown[0]], 0, 1)


def _decoded(outputs: list[NDArray[np.float32]], stride: int, width: int) -> tuple[Boxes, NDArray[np.float64]]:
    """Boxes (left, top, right, bottom) in px of the input, and scores, of one grid."""
    face, thing, offsets = (np.asarray(output[0], np.float64) for output in outputs)
    rows, columns = np.divmod(np.arange(len(face)), width // stride)
    centers = (np.stack([columns, rows], 1) + offsets[:, :2]) * stride
    sizes = np.exp(offsets[:, 2:4]) * stride
    scores = np.sqrt(np.clip(face[:, 0], 0, 1) * np.clip(thing[:, 0], 0, 1))
    return np.concatenate([centers - sizes / 2, centers + sizes / 2], 1), scores


def _without_repeats(boxes: Boxes) -> Boxes:
    """Boxes in order without those that mostly lie where an earlier one does."""
    kept: list[NDArray[np.float64]] = []
    for box in boxes:
        if all(_overlap(box, other) <= _SAME_FACE for other in kept):
            kept.append(box)
    return np.array(kept).reshape(-1, 4)


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    sides = np.maximum(0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]))
    shared = sides.prod()
    return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))
