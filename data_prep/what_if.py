"""What each threshold does: how its score spreads, what other thresholds would keep, which clips lie at the line."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.select import RULES, Rule, Select, licensed, scores

__all__ = ["Study", "studies"]

_BINS = 48
_POINTS = 97


@dataclass(frozen=True)
class Study:
    """One rule over all spans.

    Attributes:
        rule: The rule.
        threshold: None where it is off.
        missing: Spans without this score.
        alone: Spans that this rule drops and no other would.
        now: Spans that all rules keep.
        edges, counts: The histogram of the score over all spans [bins + 1], [bins].
        tries, kept: Clips that would be kept with other thresholds, all else equal [points].
        above, below: Places of spans next to the line, nearest first, that all other rules keep: this one keeps the
            former and drops the latter.

    """

    rule: Rule
    threshold: float | None
    missing: int
    alone: int
    now: int
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    tries: NDArray[np.float64]
    kept: NDArray[np.int64]
    above: tuple[int, ...]
    below: tuple[int, ...]


def studies(spans: pa.Table, select: Select, *, near: int = 6) -> list[Study]:
    """A study of each rule that any span has a score for.

    Args:
        spans: Measured spans.
        select: Resolved thresholds.
        near: How many spans to name on each side of a line.

    """
    passing = {rule.name: _passing(spans, rule, select) for rule in RULES}
    passing["licenses"] = licensed(spans, select)
    passing["need_caption"] = np.ones(len(spans), bool)
    if select.need_caption:
        said = pc.not_equal(pc.fill_null(spans["caption"], ""), "")
        passing["need_caption"] = said.to_numpy(zero_copy_only=False).astype(bool)
    found = []
    for rule in RULES:
        score = scores(spans, rule)
        if np.isfinite(score).any():
            others = [good for name, good in passing.items() if name != rule.name]
            found.append(_study(rule, score, getattr(select, rule.name), (others, passing[rule.name]), near))
    return found


def _study(
    rule: Rule,
    score: NDArray[np.float64],
    threshold: float | None,
    passing: tuple[Sequence[NDArray[np.bool_]], NDArray[np.bool_]],
    near: int,
) -> Study:
    others, good = np.logical_and.reduce(passing[0]), passing[1]
    low, high = _range(score, threshold)
    edges = np.linspace(low, high, _BINS + 1)
    counts, _ = np.histogram(np.clip(score[np.isfinite(score)], low, high), edges)
    tries = np.linspace(low, high, _POINTS)
    sides: list[tuple[int, ...]] = [(), ()]
    if threshold is not None:
        for side, mask in enumerate((others & good, others & ~good & np.isfinite(score))):
            places = np.flatnonzero(mask)
            nearest = np.argsort(np.abs(score[places] - threshold), kind="stable")[:near]
            sides[side] = tuple(places[nearest].tolist())
    return Study(
        rule=rule,
        threshold=threshold,
        missing=int((~np.isfinite(score)).sum()),
        alone=int((others & ~good).sum()),
        now=int((others & good).sum()),
        edges=edges,
        counts=counts,
        tries=tries,
        kept=_kept(np.sort(score[others & np.isfinite(score)]), tries, rule),
        above=sides[0],
        below=sides[1],
    )


def _kept(ordered: NDArray[np.float64], tries: NDArray[np.float64], rule: Rule) -> NDArray[np.int64]:
    """How many of some scores pass each threshold."""
    if rule.at_least:
        return len(ordered) - np.searchsorted(ordered, tries, side="left")
    return np.searchsorted(ordered, tries, side="right")


def _range(score: NDArray[np.float64], threshold: float | None) -> tuple[float, float]:
    """From the least score to the 99th percentile, and to the threshold where that lies outside."""
    known = score[np.isfinite(score)]
    ends = [float(known.min()), float(np.percentile(known, 99))]
    ends += [] if threshold is None else [threshold]
    low, high = min(ends), max(ends)
    # Scores that differ by rounding alone would fill the whole drawing.
    slack = 0.05 * max(abs(low), abs(high), 1e-6)
    return (low, high) if high - low > slack / 10 else (low - slack, high + slack)


def _passing(spans: pa.Table, rule: Rule, select: Select) -> NDArray[np.bool_]:
    threshold = getattr(select, rule.name)
    if threshold is None:
        return np.ones(len(spans), bool)
    score = scores(spans, rule)
    return score >= threshold if rule.at_least else score <= threshold
