"""Groups of sources with common footage: which copy is best, which clips it makes superfluous, and who is held out."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from data_prep.duplicates.align import Match
from data_prep.duplicates.matches import Pair
from data_prep.rows import by_source
from data_prep.select import Reason
from vidgen_core.errors import VidgenError

__all__ = ["Copied", "check_leaks", "drop_copies", "groups_of", "rank"]

Span = dict[str, Any]
Links = dict[str, list[tuple[str, Match]]]


class Copied(Reason):
    """A span whose footage is kept elsewhere.

    Args:
        of: Path of the source that is kept.

    """

    of: str

    def sentence(self) -> str:
        """For people."""
        return f"{self.rule} of {self.of}: {self.value:.4g} against {self.threshold:.4g}"


def groups_of(sources: Iterable[str], pairs: Iterable[Pair]) -> dict[str, str]:
    """The smallest source id of each source's connected component."""
    root = {source: source for source in sources}

    def find(source: str) -> str:
        while root[source] != source:
            root[source] = root[root[source]]
            source = root[source]
        return source

    for first, second in pairs:
        low, high = sorted((find(first), find(second)))
        root[high] = low
    return {source: find(source) for source in root}


def rank(sources: Sequence[Mapping[str, Any]], shares: Mapping[str, float]) -> list[str]:
    """Source ids from the best: most pixels of picture, then most bytes a second, then the longest.

    Args:
        sources: Rows of `sources`.
        shares: The part of each picture that is no black bar.

    """

    def worth(row: Mapping[str, Any]) -> tuple[float, float, float, str]:
        pixels = round(row["width"] * row["height"] * shares.get(row["source_id"], 1.0))
        return -pixels, -row["bytes"] / max(row["duration_s"], 1e-3), -row["duration_s"], row["source_id"]

    return [row["source_id"] for row in sorted(sources, key=worth)]


def drop_copies(
    spans: Sequence[Span], matches: Mapping[Pair, Sequence[Match]], ranked: Sequence[str], min_covered: float
) -> tuple[list[Span], list[tuple[Span, Copied]]]:
    """Kept and dropped spans. A span is dropped when enough of its time is in kept spans of better sources.

    What only the worse copy has (a longer cut, a span that failed a rule in the better one) is kept.
    """
    links = _links(matches)
    found = by_source(spans)
    kept: dict[str, list[Span]] = {}
    dropped: list[tuple[Span, Copied]] = []
    for source in sorted(found, key={source: place for place, source in enumerate(ranked)}.__getitem__):
        fresh = []
        for span in found[source]:
            covered = list(_covered(span, links, kept)) if source in links else []
            share = _length([piece for piece, _ in covered]) / max(span["stop_s"] - span["start_s"], 1e-6)
            if share >= min_covered:
                best = max(covered, key=lambda found: (found[0][1] - found[0][0], found[1]["clip_id"]))[1]
                dropped.append((span, Copied(rule="near_duplicate", value=share, threshold=min_covered,
                                             of=best["uri"])))  # fmt: skip
            else:
                fresh.append(span)
        kept[source] = sorted(fresh, key=itemgetter("start_s"))
    stays = {span["clip_id"] for some in kept.values() for span in some}
    return [span for span in spans if span["clip_id"] in stays], dropped


def check_leaks(clips: Iterable[Mapping[str, Any]], pairs: Iterable[Pair], uris: Mapping[str, str]) -> None:
    """Look at the clips that training and the held-out pass will read.

    Args:
        clips: Rows with source_id and split.
        pairs: Sources that show the same.
        uris: Path of each source.

    Raises:
        VidgenError: Footage is on both sides.

    """
    sides: dict[str, set[str]] = {}
    for clip in clips:
        sides.setdefault(clip["source_id"], set()).add(clip["split"])
    for pair in [*((source, source) for source in sides), *pairs]:
        if len(sides.get(pair[0], set()) | sides.get(pair[1], set())) > 1:
            names = " and ".join(dict.fromkeys(uris[source] for source in pair))
            raise VidgenError(
                f"The same footage is trained on and held out: {names}",
                move="Delete the folder of the table clips and prepare again; if it stays, report it",
            )


def _links(matches: Mapping[Pair, Sequence[Match]]) -> Links:
    links: Links = {}
    for (first, second), found in matches.items():
        for match in found:
            links.setdefault(first, []).append((second, match))
            links.setdefault(second, []).append((first, match.reversed()))
    return links


def _covered(
    span: Span, links: Links, kept: Mapping[str, Sequence[Span]]
) -> Iterator[tuple[tuple[float, float], Span]]:
    """Parts of a span's time (in its own source's seconds) that kept spans show, by matches and matches of those."""
    todo = [(span["source_id"], span["start_s"], span["stop_s"], 0.0)]
    seen = {span["source_id"]}
    while todo:
        source, start_s, stop_s, offset_s = todo.pop(0)
        reached = set()
        for other, match in links.get(source, []):
            low, high = max(start_s, match.start_s - offset_s), min(stop_s, match.stop_s - offset_s)
            if other in seen or high <= low:
                continue
            moved_s = offset_s + match.offset_s
            todo.append((other, low, high, moved_s))
            reached.add(other)
            for there in _overlapping(kept.get(other, []), low + moved_s, high + moved_s):
                begin, end = max(low, there["start_s"] - moved_s), min(high, there["stop_s"] - moved_s)
                if end > begin:
                    yield (begin, end), there
        # One that only shows another part of this source may still be met by way of a copy.
        seen |= reached


def _overlapping(spans: Sequence[Span], start_s: float, stop_s: float) -> Iterator[Span]:
    """Those of a source's spans, which are in order and do not overlap, that some of [start_s, stop_s) is in."""
    first = bisect_right(spans, start_s, key=itemgetter("stop_s"))
    for place in range(first, len(spans)):
        if spans[place]["start_s"] >= stop_s:
            return
        yield spans[place]


def _length(pieces: Sequence[tuple[float, float]]) -> float:
    """Length of a union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, stop in sorted(pieces):
        total += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return total
