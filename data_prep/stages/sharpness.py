"""Sharpness: variance of the Laplacian of luma at 144 lines; low for a blurred picture."""

import numpy as np
from scipy import ndimage

from data_prep.view import SpanView

__all__ = ["VERSION", "WRITES", "score"]

VERSION = 1
WRITES = ("sharpness",)


def score(view: SpanView) -> dict[str, float | None]:
    """Median over the span's probe pictures; null when the span has none."""
    if not view.probes:
        return {"sharpness": None}
    values = [ndimage.laplace(probe.small.astype(np.float32)).var() for probe in view.probes]
    return {"sharpness": float(np.median(values))}
