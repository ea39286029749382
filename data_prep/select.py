"""The one place that decides: rules over scores, each with its threshold; the first rule that a span fails is kept."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import Field

from vidgen_core.frozen import Frozen

__all__ = ["RULES", "Reason", "Rule", "Select", "decide", "verdicts"]


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
    """Thresholds; None turns a rule off. A missing score fails a rule that is on: nothing passes unmeasured.

    Args:
        min_motion: Least mean change from frame to frame, in gray levels.
        min_brightness, max_brightness: Range of the mean luma, 0 to 255.
        min_sharpness: Least sharpness, 0 (blurred) to 1.
        min_keep_area: Least share of the picture left after cropping black bars.
        min_distinct_share: Least share of a clip's frames that are different frames of the source.
        max_blockiness: Most luma step at the borders of blocks over that inside them; 1 is none.
        max_noise: Most noise, as a standard deviation in steps of 8 bits.
        min_flow_px_s, max_flow_px_s: Range of the mean optical flow, in source pixels a second.
        max_camera_px_s: Most motion of the camera, likewise.
        min_object_px_s: Least motion that is not the camera's, likewise.
        max_text_area: Most of the picture under lines of text that stay, 0 to 1.
        min_aesthetic: Least aesthetic score, on the scale of the head's weights (about 1 to 10).
        min_text_video_match: Least cosine between caption and stills.
        max_nsfw, max_watermark: Most probability, 0 to 1.
        max_faces: Most faces in a still.
        max_detected_text_area: Most of the picture that a text detector marks, 0 to 1.
        max_niqe: Most NIQE; lower is more natural.
        need_caption: Drop spans without a caption.

    """

    min_motion: float | None = 0.15
    min_brightness: float | None = 5.0
    max_brightness: float | None = 250.0
    min_sharpness: float | None = None
    min_keep_area: float = Field(default=0.5, gt=0, le=1)
    min_distinct_share: float = Field(default=0.75, ge=0, le=1)
    max_blockiness: float | None = None
    max_noise: float | None = None
    min_flow_px_s: float | None = None
    max_flow_px_s: float | None = None
    max_camera_px_s: float | None = None
    min_object_px_s: float | None = None
    max_text_area: float | None = None
    min_aesthetic: float | None = None
    min_text_video_match: float | None = None
    max_nsfw: float | None = None
    max_watermark: float | None = None
    max_faces: float | None = None
    max_detected_text_area: float | None = None
    max_niqe: float | None = None
    need_caption: bool = True


class Rule(NamedTuple):
    """A rule of `Select`: its field, the score that it looks at, and on which side of the threshold is good."""

    name: str
    score: str
    at_least: bool


# In the order in which they are asked; a new score gets a field of `Select` and a row here.
RULES = (
    Rule("min_distinct_share", "distinct_share", True),
    Rule("min_keep_area", "keep_area", True),
    Rule("min_brightness", "brightness", True),
    Rule("max_brightness", "brightness", False),
    Rule("min_sharpness", "sharpness", True),
    Rule("min_motion", "motion", True),
    Rule("max_blockiness", "blockiness", False),
    Rule("max_noise", "noise", False),
    Rule("min_flow_px_s", "flow_px_s", True),
    Rule("max_flow_px_s", "flow_px_s", False),
    Rule("max_camera_px_s", "camera_px_s", False),
    Rule("min_object_px_s", "object_px_s", True),
    Rule("max_text_area", "text_area", False),
    Rule("max_niqe", "niqe", False),
    Rule("max_detected_text_area", "detected_text_area", False),
    Rule("max_watermark", "watermark", False),
    Rule("max_nsfw", "nsfw", False),
    Rule("max_faces", "faces", False),
    Rule("min_aesthetic", "aesthetic", True),
    Rule("min_text_video_match", "text_video_match", True),
)


def decide(span: Mapping[str, Any], select: Select, *, frames: int) -> Reason | None:
    """The first rule that a span fails, None when it is kept. `frames` is the length of a clip."""
    scores = {**span, "distinct_share": span["distinct_frames"] / frames}
    for rule in RULES:
        value, threshold = scores.get(rule.score), getattr(select, rule.name)
        if threshold is None:
            continue
        if value is None or (value < threshold if rule.at_least else value > threshold):
            return Reason(rule=rule.name, value=value, threshold=threshold)
    if select.need_caption and not span["caption"]:
        return Reason(rule="need_caption", value=0.0, threshold=1.0)
    return None


def verdicts(spans: pa.Table, select: Select, *, frames: int) -> list[tuple[dict[str, Any], Reason | None]]:
    """Every span with its verdict, in the table's order."""
    return [(span, decide(span, select, frames=frames)) for span in spans.to_pylist()]
