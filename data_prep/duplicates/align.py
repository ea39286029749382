"""Whether two sources show the same footage, and when: their samples side by side at one distance in time.

Pictures alone do not decide: two takes by one camera before one wall are alike to 0.99. What changes from sample to
sample must be alike too, and by as much; where nothing changes, the pictures must be equal.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.duplicates.fingerprint import RATE, Fingerprint, Floats
from data_prep.duplicates.search import FAINT, VARIANTS, Variant
from data_prep.duplicates.settings import PerceptualSettings

__all__ = ["Match", "align", "least_seconds"]

_SAMPLE_ALIKE = 0.8  # a sample that is less alike ends a stretch
_LEAST_STRETCH = 4  # samples
_STILL = 0.02  # of a stretch's contrast: less change than this is noise of the codecs
_STILL_ALIKE = 0.99
_SAME_AMOUNT = 0.6  # least ratio of the two amounts of change
_ALL_PAIRS = 1 << 22  # samples of one times samples of the other, up to which every offset is looked at
_NEAR = 2  # samples by which a hit's offset may be wrong


@dataclass(frozen=True)
class Match:
    """A stretch of the same footage, in seconds from the first frame of each source.

    Attributes:
        start_s, stop_s: In the first source.
        offset_s: Time in the second source less that in the first.
        mirrored: Whether one is the mirror image of the other.
        share: The part of each side that the more cropped of the two shows, 1 for all.
        similarity: Mean correlation of the pictures.
        change_similarity: Correlation of what changes; None where nothing does.

    """

    start_s: float
    stop_s: float
    offset_s: float
    mirrored: bool
    share: float
    similarity: float
    change_similarity: float | None

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.stop_s - self.start_s

    def reversed(self) -> "Match":
        """The same, seen from the second source."""
        return Match(self.start_s + self.offset_s, self.stop_s + self.offset_s, -self.offset_s, self.mirrored,
                     self.share, self.similarity, self.change_similarity)  # fmt: skip


def align(
    query: Fingerprint, base: Fingerprint, candidates: Iterable[tuple[int, int]], settings: PerceptualSettings
) -> list[Match]:
    """Stretches that both sources show; they do not overlap in the query. None when they are too little in all.

    Args:
        query, base: The fingerprints.
        candidates: (place of a variant of the query in VARIANTS, offset in samples) that met.
        settings: How alike they must be, and for how long.

    """
    least_s = least_seconds(len(query), len(base), settings)
    b = base.floats()
    found: list[list[Match]] = []
    for number, offsets in _by_variant(candidates).items():
        a = VARIANTS[number].of(query.floats())
        for offset in _offsets(a, b, offsets, least_s):
            for between in (-1, 0, 1):
                runs = list(_runs(a, b, offset, between, VARIANTS[number], settings))
                if sum(run.seconds for run in runs) >= least_s:
                    found.append(runs)
    chosen: list[Match] = []
    for runs in sorted(found, key=lambda runs: (_weight(runs), -runs[0].start_s, -runs[0].offset_s), reverse=True):
        free = [run for run in runs if all(_apart(run, other) for other in chosen)]
        if sum(run.seconds for run in free) >= least_s:
            chosen += free
    return chosen


def least_seconds(query: int, base: int, settings: PerceptualSettings) -> float:
    """How much two sources of so many samples must have in common."""
    return min(settings.min_excerpt_s, settings.min_share * min(query, base) / RATE)


def _apart(a: Match, b: Match) -> bool:
    return a.stop_s <= b.start_s or b.stop_s <= a.start_s


def _weight(runs: list[Match]) -> float:
    return sum(run.seconds * (run.similarity + (run.change_similarity or 0.0)) for run in runs)


def _by_variant(candidates: Iterable[tuple[int, int]]) -> dict[int, set[int]]:
    grouped: dict[int, set[int]] = {}
    for variant, offset in sorted(candidates):
        grouped.setdefault(variant, set()).add(offset)
    return grouped


def _offsets(a: Floats, b: Floats, hits: set[int], least_s: float) -> list[int]:
    """Offsets at which enough samples are alike; of long sources only those near a hit."""
    enough = max(1, int(least_s * RATE) - 1)
    if len(a) * len(b) <= _ALL_PAIRS:
        rows, columns = np.nonzero(_units(a) @ _units(b).T >= _SAMPLE_ALIKE)
        counts = np.bincount(columns - rows + len(a) - 1, minlength=1)
        return (np.flatnonzero(counts >= enough) - len(a) + 1).tolist()
    near = sorted({hit + step for hit in hits for step in range(-_NEAR, _NEAR + 1)})
    return [offset for offset in near if (_correlations(*_beside(a, b, offset)) >= _SAMPLE_ALIKE).sum() >= enough]


def _beside(a: Floats, b: Floats, offset: int) -> tuple[Floats, Floats]:
    """The samples of both that meet at an offset."""
    first, stop = max(0, -offset), max(0, -offset, min(len(a), len(b) - offset))
    return a[first:stop], b[first + offset : stop + offset]


def _runs(
    a: Floats, b: Floats, offset: int, between: int, variant: Variant, settings: PerceptualSettings
) -> Iterator[Match]:
    """Verified stretches at an offset of (offset + between / 2) samples; between samples the picture is their mean."""
    if between and len(a) < 2:
        return
    moved = offset + (between > 0)
    made = (a[1:] + a[:-1]) / np.float32(2) if between else a
    first = max(0, -moved)
    left, right = _beside(made, b, moved)
    alike = _correlations(left, right)
    least = max(1, min(_LEAST_STRETCH, len(a) - abs(between), len(b) - abs(between)))
    for start, stop in _stretches(alike >= _SAMPLE_ALIKE, least):
        similarity, change = float(alike[start:stop].mean()), _change(left[start:stop], right[start:stop])
        if similarity >= settings.min_similarity and _verified(similarity, change, settings):
            half = 0.5 if between else 0.0
            begin_s, end_s = (first + start + half) / RATE, (first + stop + half) / RATE
            yield Match(begin_s, end_s, (moved - half) / RATE, variant.mirrored, variant.share, similarity,
                        change and change[0])  # fmt: skip


def _verified(similarity: float, change: tuple[float, float] | None, settings: PerceptualSettings) -> bool:
    if change is None:
        return similarity >= _STILL_ALIKE
    return change[0] >= settings.min_change_similarity and change[1] >= _SAME_AMOUNT


def _units(values: Floats) -> Floats:
    """Samples of length 1 [N, DIMS]; 0 where a picture is too faint to say anything."""
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.where(norms >= FAINT, values / np.maximum(norms, FAINT), np.float32(0))


def _correlations(a: Floats, b: Floats) -> NDArray[np.float32]:
    return (_units(a) * _units(b)).sum(axis=1)


def _change(a: Floats, b: Floats) -> tuple[float, float] | None:
    """Correlation of what changes, and the ratio of the smaller to the larger amount; None when both stand still."""
    changes = a - a.mean(axis=0), b - b.mean(axis=0)
    amounts = [float(np.linalg.norm(c) / np.linalg.norm(x)) for c, x in zip(changes, (a, b), strict=True)]
    if max(amounts) < _STILL:
        return None
    together = float((changes[0] * changes[1]).sum())
    correlation = together / max(float(np.linalg.norm(changes[0]) * np.linalg.norm(changes[1])), 1e-6)
    return correlation, min(amounts) / max(amounts)


def _stretches(good: NDArray[np.bool_], least: int) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8))).reshape(-1, 2)
    return [(int(start), int(stop)) for start, stop in edges if stop - start >= least]
