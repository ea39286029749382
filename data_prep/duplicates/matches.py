"""The table `matches`: stretches of footage that two sources share, found for new sources only.

A source's file holds its matches with those that were there before it. So a new source is compared with all, and
nothing is compared twice; the rows of one that is gone are passed over and leave with its partner.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from data_prep.duplicates import fingerprint
from data_prep.duplicates.align import Match, align, least_seconds
from data_prep.duplicates.fingerprint import RATE, Fingerprint
from data_prep.duplicates.search import Index, codes_of, hits, merged, thinned
from data_prep.duplicates.settings import PerceptualSettings
from data_prep.sql import told_by_files
from data_prep.tables import SCHEMAS, Part, Tables
from data_prep.units import write
from vidgen_core import digests

__all__ = ["FINGERPRINTS", "MATCHES", "Pair", "between", "known_matches", "update_matches"]

FINGERPRINTS, MATCHES = "fingerprints", "matches"
_VERSION = 1
_SOURCES_AT_ONCE = 512
_COMMIT_EVERY = 1024
_MEET_SHARE = 0.25  # of the samples that two copies must have in common: fewer meetings are no reason to look closer
Pair = tuple[str, str]


def update_matches(tables: Tables, settings: PerceptualSettings) -> dict[Pair, list[Match]]:
    """Compare the sources that are new; give all matches by (first, second) source id, the first one smaller."""
    files = {source: file for file, source in told_by_files(tables.files(FINGERPRINTS), "source_id").items()}
    made_by = [_VERSION, fingerprint.VERSION, settings.model_dump(mode="json", exclude={"min_covered"})]
    keys = {source: digests.of_value([made_by, source], 32) for source in sorted(files)}
    have = tables.committed(MATCHES)
    tables.commit(MATCHES, SCHEMAS[MATCHES], [], drop=have - set(keys.values()))
    new = [source for source, key in keys.items() if key not in have]
    opened = lru_cache(maxsize=4 * _SOURCES_AT_ONCE)(lambda source: _read(files[source]))
    rows: dict[str, list[dict[str, Any]]] = {source: [] for source in new}
    for pair, matches in between(list(files), new, opened, settings).items():
        # The smaller id of two new sources may be committed first by a run that is killed then.
        owner = max(source for source in pair if source in rows)
        rows[owner] += [{"first": pair[0], "second": pair[1], **asdict(match)} for match in matches]
    parts: list[Part] = []
    for number, source in enumerate(new, start=1):
        parts.append(write(tables, MATCHES, keys[source], rows[source]))
        if number % _COMMIT_EVERY == 0 or number == len(new):
            tables.commit(MATCHES, SCHEMAS[MATCHES], parts)
            parts = []
    return _all(tables, set(files))


def known_matches(tables: Tables, _settings: PerceptualSettings) -> dict[Pair, list[Match]]:
    """What an earlier run found between the sources that are there; compares nothing."""
    return _all(tables, set(tables.read(FINGERPRINTS, ["source_id"])["source_id"].to_pylist()))


def between(
    sources: Sequence[str], new: Sequence[str], opened: Callable[[str], Fingerprint], settings: PerceptualSettings
) -> dict[Pair, list[Match]]:
    """Matches of the new sources with each other and with the others."""
    order, fresh = sorted(sources), set(new)
    if not fresh or len(order) < 2:
        return {}
    # Each is opened once: the codes of all are small, and their samples need not be.
    told = [(thinned(codes_of(number, made.floats())), len(made)) for number, made in enumerate(map(opened, order))]
    codes, lengths = [some for some, _ in told], [length for _, length in told]
    fresh_codes = [some for some, source in zip(codes, order, strict=True) if source in fresh]

    # A cropped copy is found from the whole picture only, so each of a pair must be asked for the other.
    def enough(query: int, base: int) -> float:
        return _MEET_SHARE * RATE * least_seconds(lengths[query], lengths[base], settings)

    asked = (([n for n, source in enumerate(order) if source in fresh], codes),
             ([n for n, source in enumerate(order) if source not in fresh], fresh_codes))  # fmt: skip
    met = [np.zeros((0, 4), np.int64)]
    for numbers, there in asked:
        index = Index(merged(there))
        for start in range(0, len(numbers), _SOURCES_AT_ONCE):
            queries = [(n, opened(order[n])) for n in numbers[start : start + _SOURCES_AT_ONCE]]
            met.append(hits(queries, index, enough))
    candidates: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for query, base, variant, offset in np.concatenate(met).tolist():
        candidates.setdefault((query, base), []).append((variant, offset))
    found: dict[Pair, list[list[Match]]] = {}
    for (query, base), some in candidates.items():
        matches = align(opened(order[query]), opened(order[base]), some, settings)
        if matches:
            pair = (order[min(query, base)], order[max(query, base)])
            seen = matches if query < base else [match.reversed() for match in matches]
            found.setdefault(pair, []).append(sorted(seen, key=lambda match: (match.start_s, match.offset_s)))
    return {pair: max(both, key=_best) for pair, both in sorted(found.items())}


def _best(matches: Sequence[Match]) -> tuple[float, ...]:
    """Longest first; the rest of the order only makes the choice the same from both sides."""
    seconds = sum(match.seconds for match in matches)
    alike = sum(match.seconds * (match.similarity + (match.change_similarity or 0)) for match in matches)
    return (round(alike, 6), seconds, matches[0].share, -matches[0].start_s, -matches[0].offset_s)


def _all(tables: Tables, present: set[str]) -> dict[Pair, list[Match]]:
    """Matches between sources that are there; a pair that two runs wrote counts once."""
    pairs: dict[Pair, set[Match]] = {}
    for row in tables.read(MATCHES).to_pylist():
        pair = (row.pop("first"), row.pop("second"))
        if present.issuperset(pair):
            pairs.setdefault(pair, set()).add(Match(**row))
    return {pair: sorted(found, key=lambda m: (m.start_s, m.offset_s)) for pair, found in sorted(pairs.items())}


def _read(file: Path) -> Fingerprint:
    row = pq.read_table(file, columns=["samples"], partitioning=None)["samples"].to_pylist()
    return Fingerprint.from_bytes(row[0])
