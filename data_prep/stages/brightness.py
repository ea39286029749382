"""Brightness: mean luma, 0 to 255."""

from data_prep.view import SpanView

__all__ = ["VERSION", "WRITES", "score"]

VERSION = 1
WRITES = ("brightness",)


def score(view: SpanView) -> dict[str, float | None]:
    """Over all frames of the span."""
    return {"brightness": float(view.thumbs.mean())}
