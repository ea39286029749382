"""The one place that decides: rules over scores, each with its threshold; the first rule that a span fails is kept.

`decide` is the law for one span; `judge` applies it to a whole table a column at a time, so that new thresholds for a
million spans take a fraction of a second.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, field_validator

from vidgen_core.errors import did_you_mean
from vidgen_core.frozen import Frozen
from vidgen_core.licenses import UNKNOWN, check_wanted, fits

__all__ = [
    "RULES",
    "SOURCE_COLUMNS",
    "Reason",
    "Rule",
    "Select",
    "Verdicts",
    "asked",
    "decide",
    "judge",
    "licensed",
    "measured",
    "resolve",
    "scores",
]


class Rule(NamedTuple):
    """A rule of `Select`: its field, the score that it looks at, and on which side of the threshold is good."""

    name: str
    score: str
    at_least: bool


# In the order in which they are asked; a new score gets a field of `Select` and a row here.
RULES = (
    Rule("min_source_s", "source_s", True),
    Rule("min_source_fps", "source_fps", True),
    Rule("min_bits_per_pixel", "bits_per_pixel", True),
    Rule("min_aspect", "aspect", True),
    Rule("max_aspect", "aspect", False),
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


class Reason(Frozen):
    """Why a span was dropped.

    Args:
        rule: The field of `Select`.
        value: The span's score; None when it was missing.
        threshold: What the rule wanted.
        message: The sentence, where the numbers do not say it.

    """

    rule: str
    value: float | None
    threshold: float
    message: str = ""

    def sentence(self) -> str:
        """For people."""
        if self.message:
            return self.message
        if self.value is None:
            return f"{self.rule}: there is no score, and a missing score is not a pass"
        return f"{self.rule}: {self.value:.4g} against {self.threshold:.4g}"


class Select(Frozen):
    """Thresholds; None turns a rule off. A missing score fails its rule: nothing passes unmeasured.

    Args:
        min_source_s, min_source_fps: Least length in seconds and frame rate of the source.
        min_bits_per_pixel: Least bits of the file for a pixel of a frame.
        min_aspect, max_aspect: Range of the source's width over height as it is shown.
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
        licenses: Names or patterns, such as CC-BY-*, of which a source's license must be one; an unknown one is none.
            Empty for no such rule. It is asked first.
        need_caption: Drop spans without a caption.
        drop_share: Rule -> the share of all measured spans with the worst scores that it drops besides, as
            {"min_motion": 0.25} for the bottom quarter. The threshold then follows the data: it moves when sources
            come or go.

    """

    min_source_s: float | None = None
    min_source_fps: float | None = None
    min_bits_per_pixel: float | None = None
    min_aspect: float | None = None
    max_aspect: float | None = None
    min_motion: float | None = 0.15
    min_brightness: float | None = 5.0
    max_brightness: float | None = 250.0
    min_sharpness: float | None = None
    min_keep_area: float | None = Field(default=0.5, gt=0, le=1)
    min_distinct_share: float | None = Field(default=0.75, ge=0, le=1)
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
    licenses: tuple[str, ...] = Field((), exclude_if=lambda licenses: not licenses)
    need_caption: bool = True
    drop_share: dict[str, float] = {}

    @field_validator("licenses")
    @classmethod
    def _are_licenses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_wanted(value)

    @field_validator("drop_share")
    @classmethod
    def _are_shares_of_rules(cls, value: dict[str, float]) -> dict[str, float]:
        known = [rule.name for rule in RULES]
        for name, share in value.items():
            if name not in known:
                raise ValueError(f"there is no rule {name!r}. {did_you_mean(name, known) or ', '.join(known)}")
            if not 0 <= share < 1:
                raise ValueError(f"the share of {name} must be at least 0 and below 1")
        return value


@dataclass(frozen=True)
class Verdicts:
    """What became of each span of a table, in its order [N].

    Attributes:
        kept: True where no rule failed.
        rule: Name of the first rule that failed, null where kept.
        value: The score that the rule saw, null where kept or where there was none.
        threshold: What the rule wanted, null where kept.
        message: The sentence, null where the numbers say it.

    """

    kept: NDArray[np.bool_]
    rule: pa.Array
    value: pa.Array
    threshold: pa.Array
    message: pa.Array


def measured(
    spans: pa.Table, sources: pa.Table, *, frames: int | NDArray[np.int64], rights: pa.Table | None = None
) -> pa.Table:
    """Spans with the scores that follow from other columns. `frames` is the length of a clip, or of each span's [N].

    Adds `distinct_share`, and of their source `source_s`, `source_fps`, `bits_per_pixel`, `aspect` and, where `rights`
    are given, `license`.
    """
    length = float(frames) if isinstance(frames, int) else pa.array(frames, pa.float64())
    distinct = pc.divide(pc.cast(spans["distinct_frames"], pa.float64()), length)
    spans = spans.append_column("distinct_share", distinct)
    facts = pa.Table.from_pylist([_facts(row) for row in sources.to_pylist()], _FACTS)
    place = pc.index_in(spans["source_id"], value_set=facts["source_id"].combine_chunks())
    if rights is not None:
        told = pc.index_in(facts["source_id"], value_set=rights["source_id"].combine_chunks())
        facts = facts.append_column("license", rights["license"].combine_chunks().take(told.combine_chunks()))
    for name in facts.column_names[1:]:
        spans = spans.append_column(name, facts[name].take(place))
    return spans


def resolve(spans: pa.Table, select: Select) -> Select:
    """Thresholds as numbers: shares to drop become the score at that share of the measured spans."""
    changed: dict[str, float] = {}
    for rule in RULES:
        share, fixed = select.drop_share.get(rule.name, 0.0), getattr(select, rule.name)
        if not share:
            continue
        values = np.sort(scores(spans, rule))
        values = values[~np.isnan(values)]
        if len(values):
            drop = math.floor(share * len(values))
            at = float(values[drop] if rule.at_least else values[len(values) - 1 - drop])
            strict = max if rule.at_least else min
            changed[rule.name] = at if fixed is None else strict(at, fixed)
    return select.model_copy(update={**changed, "drop_share": {}})


def asked(select: Select) -> frozenset[str]:
    """The scores that some rule looks at."""
    return frozenset(
        rule.score for rule in RULES if select.drop_share.get(rule.name) or getattr(select, rule.name) is not None
    )


def decide(span: Mapping[str, Any], select: Select) -> Reason | None:
    """The first rule that a measured span fails, None when it is kept; `select` has been resolved."""
    if select.licenses and not fits(license_ := span.get("license"), select.licenses):
        value = None if license_ is None else 0.0
        return Reason(rule="licenses", value=value, threshold=1.0, message=_unlicensed(license_, select))
    for rule in RULES:
        value, threshold = span.get(rule.score), getattr(select, rule.name)
        if threshold is None:
            continue
        if value is None or math.isnan(value):
            return Reason(rule=rule.name, value=None, threshold=threshold)
        if value < threshold if rule.at_least else value > threshold:
            return Reason(rule=rule.name, value=value, threshold=threshold)
    if select.need_caption and not span["caption"]:
        return Reason(rule="need_caption", value=0.0, threshold=1.0)
    return None


def judge(spans: pa.Table, select: Select) -> Verdicts:
    """What `decide` says of each measured span, for all of them at once."""
    count = len(spans)
    first = np.full(count, -1, np.int16)  # place of the first rule failed
    values, thresholds = np.full(count, np.nan), np.full(count, np.nan)
    message = pa.nulls(count, pa.string())
    if select.licenses:
        names, own = _licenses(spans)
        new = ~licensed(spans, select)
        message = pa.array([_unlicensed(name, select) for name in names]).take(pa.array(own, mask=~new))
        first[new], thresholds[new] = len(RULES) + 1, 1.0
        values[new & (own < len(names) - 1)] = 0.0
    for place, rule in enumerate(RULES):
        threshold = getattr(select, rule.name)
        if threshold is None:
            continue
        score = scores(spans, rule)
        new = ~(score >= threshold if rule.at_least else score <= threshold) & (first < 0)
        first[new], values[new], thresholds[new] = place, score[new], threshold
    if select.need_caption:
        silent = pc.equal(pc.fill_null(spans["caption"], ""), "").to_numpy(zero_copy_only=False)
        new = silent & (first < 0)
        first[new], values[new], thresholds[new] = len(RULES), 0.0, 1.0
    kept = first < 0
    rules = pa.array([*(rule.name for rule in RULES), "need_caption", "licenses"])
    return Verdicts(
        kept=kept,
        rule=rules.take(pa.array(first, mask=kept)),
        value=pa.array(values, mask=np.isnan(values)),
        threshold=pa.array(thresholds, mask=kept),
        message=message,
    )


def licensed(spans: pa.Table, select: Select) -> NDArray[np.bool_]:
    """Which spans' licenses the selection wants, all where it does not ask [N]."""
    if not select.licenses:
        return np.ones(len(spans), bool)
    names, place = _licenses(spans)
    return np.array([fits(name, select.licenses) for name in names])[place]


def _licenses(spans: pa.Table) -> tuple[list[str | None], NDArray[np.int64]]:
    """The licenses that there are, None last, and which of them each span has [N]."""
    if "license" not in spans.column_names:
        return [None], np.zeros(len(spans), np.int64)
    told = spans["license"].combine_chunks().dictionary_encode()
    names = told.dictionary.to_pylist()
    place = told.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
    return [*names, None], place.astype(np.int64)


def _unlicensed(license_: str | None, select: Select) -> str:
    return f"licenses: {license_ or UNKNOWN}, and {' or '.join(select.licenses)} is wanted"


# What `measured` reads of `sources`.
SOURCE_COLUMNS = ("source_id", "bytes", "width", "height", "rotation", "sar", "frames", "duration_s")
_FACTS = pa.schema(
    [("source_id", pa.string()), ("source_s", pa.float64()), ("source_fps", pa.float64()),
     ("bits_per_pixel", pa.float64()), ("aspect", pa.float64())]
)  # fmt: skip


def _facts(source: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of a source as a whole; the rate is what its frames give, since headers may lie."""
    frames, seconds, pixels = source["frames"], source["duration_s"], source["width"] * source["height"]
    sar = _ratio(source["sar"])
    sar = 1 / sar if source["rotation"] % 180 else sar
    return {
        "source_id": source["source_id"],
        "source_s": seconds,
        "source_fps": frames / seconds if seconds else None,
        "bits_per_pixel": 8 * source["bytes"] / (pixels * frames) if pixels * frames else None,
        "aspect": source["width"] * sar / source["height"] if source["height"] else None,
    }


def _ratio(text: str) -> float:
    over, _, under = text.partition("/")
    return float(over) / float(under or 1)


def scores(spans: pa.Table, rule: Rule) -> NDArray[np.float64]:
    """A rule's scores, NaN where there is none; a table may be older than the score [N]."""
    if rule.score not in spans.column_names:
        return np.full(len(spans), np.nan)
    return pc.cast(spans[rule.score], pa.float64()).to_numpy(zero_copy_only=False)
