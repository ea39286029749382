"""From candidate clips to clips without copies, with each on its side of the split."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from data_prep.duplicates.groups import Copied, Span, check_leaks, drop_copies, groups_of, rank
from data_prep.duplicates.matches import FINGERPRINTS, Pair, known_matches, update_matches
from data_prep.duplicates.semantic import drop_alike, embed
from data_prep.settings import DataSettings
from data_prep.sources import Source
from data_prep.tables import SCHEMAS, Tables
from data_prep.units import Workshop

__all__ = ["GROUPS", "Resolved", "fail_on_leaks", "resolve", "split_of"]

GROUPS = "duplicate_groups"


class Resolved(NamedTuple):
    """Spans to keep, each with its `split`, and those that are copies; sources with common content; how many groups."""

    kept: list[Span]
    dropped: list[tuple[Span, Copied]]
    pairs: set[Pair]
    groups: int


def resolve(spans: Sequence[Span], sources: Mapping[str, Source], shop: Workshop, settings: DataSettings) -> Resolved:
    """Find copies among all sources, drop those among the spans, and put each group on one side.

    Only spans that passed every rule compete, so a copy takes the place of a better one that failed.
    """
    tables, wanted = shop.tables, settings.duplicates
    known = tables.read("sources").to_pylist()
    bars = tables.read(FINGERPRINTS, ["source_id", "picture_share"]).to_pylist()
    ranked = rank(known, {row["source_id"]: row["picture_share"] for row in bars})
    kept, dropped, pairs = list(spans), list[tuple[Span, Copied]](), set[Pair]()
    if wanted.perceptual is not None:
        matches = (known_matches if shop.looks else update_matches)(tables, wanted.perceptual)
        kept, dropped = drop_copies(kept, matches, ranked, wanted.perceptual.min_covered)
        pairs = set(matches)
    if embeddings := embed(kept, sources, shop, wanted.semantic):
        kept, alike, more = drop_alike(kept, embeddings, ranked, wanted.semantic.min_cosine)
        dropped, pairs = dropped + alike, pairs | more
    groups = groups_of(ranked, pairs)
    sides = {source: split_of(group, settings.held_out_share) for source, group in groups.items()}
    rows = _group_rows(known, ranked, groups, sides)
    if not shop.looks:
        tables.replace(GROUPS, pa.Table.from_pylist(rows, SCHEMAS[GROUPS]))
    placed = [span | {"split": sides[span["source_id"]]} for span in kept]
    return Resolved(placed, dropped, pairs, len({row["group"] for row in rows}))


def split_of(group: str, held_out_share: float) -> str:
    """A group is held out as a whole, by the smallest id in it: the same on every machine and in every run."""
    place = int(hashlib.sha256(f"split:{group}".encode()).hexdigest()[:8], 16) / 2**32
    return "held_out" if place < held_out_share else "train"


def fail_on_leaks(tables: Tables, pairs: set[Pair]) -> None:
    """Look at the clips as they are now.

    Raises:
        VidgenError: Footage is on both sides.

    """
    named = tables.read("sources", ["source_id", "uri"]).to_pylist()
    clips = tables.read("clips", ["source_id", "split"]).to_pylist()
    check_leaks(clips, sorted(pairs), {row["source_id"]: row["uri"] for row in named})


def _group_rows(
    known: Sequence[Mapping[str, Any]], ranked: Sequence[str], groups: Mapping[str, str], sides: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Groups of two and more, each from its best source, which has place 0."""
    sizes, uris, places = Counter(groups.values()), {row["source_id"]: row["uri"] for row in known}, Counter[str]()
    rows = []
    for source in ranked:
        group = groups[source]
        if sizes[group] > 1:
            rows.append({"group": group, "place": places[group], "source_id": source, "uri": uris[source],
                         "split": sides[source]})  # fmt: skip
            places[group] += 1
    return rows
