"""The one place that decides: rules over scores, each with its threshold; the first rule that a span fails is kept."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pydantic import Field

from vidgen_core.frozen import Frozen

__all__ = ["Reason", "Select", "decide", "verdicts"]


class Reason(Frozen):
    """Why a span was dropped.

    Args:
        rule: The field of `Select`.
        value: The span's score; None when it was missing.
        threshold: What the rule wanted.

    """

    rule: str
    value: float | None
    threshold: float

    def sentence(self) -> str:
        """For people."""
        if self.value is None:
            return f"{self.rule}: there is no score, and a missing score is not a pass"
        return f"{self.rule}: {self.value:.4g} against {self.threshold:.4g}"


class Select(Frozen):
    """Thresholds. A missing score fails its rule: nothing passes unmeasured.

    Args:
        min_motion: Least mean change from frame to frame, in gray levels.
        min_brightness, max_brightness: Range of the mean luma, 0 to 255.
        min_sharpness: Least variance of the Laplacian at 144 lines.
        min_keep_area: Least share of the picture left after cropping black bars.
        min_distinct_share: Least share of a clip's frames that are different frames of the source.
        need_caption: Drop spans without a caption.

    """

    min_motion: float = 0.15
    min_brightness: float = 5.0
    max_brightness: float = 250.0
    min_sharpness: float = 0.0
    min_keep_area: float = Field(default=0.5, gt=0, le=1)
    min_distinct_share: float = Field(default=0.75, ge=0, le=1)
    need_caption: bool = True


def decide(span: Mapping[str, Any], select: Select, *, frames: int) -> Reason | None:
    """The first rule that a span fails, None when it is kept. `frames` is the length of a clip."""
    rules: list[tuple[str, float | None, float, bool]] = [
        ("min_distinct_share", span["distinct_frames"] / frames, select.min_distinct_share, True),
        ("min_keep_area", span["keep_area"], select.min_keep_area, True),
        ("min_brightness", span["brightness"], select.min_brightness, True),
        ("max_brightness", span["brightness"], select.max_brightness, False),
        ("min_sharpness", span["sharpness"], select.min_sharpness, True),
        ("min_motion", span["motion"], select.min_motion, True),
    ]
    for rule, value, threshold, at_least in rules:
        if value is None or (value < threshold if at_least else value > threshold):
            return Reason(rule=rule, value=value, threshold=threshold)
    if select.need_caption and not span["caption"]:
        return Reason(rule="need_caption", value=0.0, threshold=1.0)
    return None


def verdicts(spans: pa.Table, select: Select, *, frames: int) -> list[tuple[dict[str, Any], Reason | None]]:
    """Every span with its verdict, in the table's order."""
    return [(span, decide(span, select, frames=frames)) for span in spans.to_pylist()]
