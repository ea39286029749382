"""Which pairs of sources may share footage: multi-index hashing of samples, without comparing everything with all.

A sample becomes 63 signs of its lowest luma coefficients, in three bands of 21. Two samples meet when a band is equal
after flipping some of the three bits of it that were the least certain. Whether two sources become candidates depends
on these two alone, so the order in which sources come changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.duplicates.fingerprint import DIMS, MIRROR, Fingerprint, Floats, cropped

__all__ = ["FAINT", "VARIANTS", "Codes", "Index", "Variant", "codes_of", "hits", "merged", "thinned"]

_BANDS, _BAND_BITS, _DOUBTS = 3, 21, 3
_FAR = 18  # of 63 bits: farther samples are strangers that met by chance
_STEP = 3  # bits by which a sample must differ from the last one in the index, or a still picture would fill it
_CHUNK = 1 << 15
_MOST_PAIRS = 1 << 21  # that are looked at together, which takes about 200 MB
FAINT = 3.0
"""Gray levels of contrast (root mean square) below which a picture says nothing about where it is from."""


@dataclass(frozen=True)
class Variant:
    """How one picture may differ from its copy: the copy shows the middle `share` of each side, perhaps mirrored."""

    mirrored: bool
    share: float
    matrix: Floats

    def of(self, values: Floats) -> Floats:
        """Coefficients [N, DIMS] as the copy would have them."""
        if self.share == 1:
            return values * MIRROR if self.mirrored else values
        return values @ self.matrix.T


VARIANTS: tuple[Variant, ...] = tuple(
    Variant(mirrored, share, cropped(share) * (MIRROR if mirrored else 1))
    for share in (1.0, 0.92, 0.85)
    for mirrored in (False, True)
)


@dataclass(frozen=True)
class Codes:
    """Samples of some sources as bits.

    Attributes:
        source, place: Which source of a list, and which of its samples [N].
        bits: 63 signs [N].
        doubts: The least certain bits of each band, as masks within the band [N, bands, doubts].

    """

    source: NDArray[np.int64]
    place: NDArray[np.int64]
    bits: NDArray[np.uint64]
    doubts: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.bits)

    def band(self, number: int) -> NDArray[np.uint32]:
        """One band of the bits [N]."""
        shifted = self.bits >> np.uint64(number * _BAND_BITS)
        return (shifted & np.uint64((1 << _BAND_BITS) - 1)).astype(np.uint32)

    def some(self, keep: NDArray[np.bool_] | slice) -> "Codes":
        """A part of the samples."""
        return Codes(self.source[keep], self.place[keep], self.bits[keep], self.doubts[keep])


def codes_of(number: int, values: Floats) -> Codes:
    """The codes of one source's coefficients [N, DIMS]; pictures without contrast are left out."""
    place = np.flatnonzero(np.linalg.norm(values, axis=1) >= FAINT)
    chosen = values[place][:, _CHOSEN]
    bits = np.zeros(len(place), np.uint64)
    for bit in range(_BANDS * _BAND_BITS):
        bits |= (chosen[:, bit] > 0).astype(np.uint64) << np.uint64(bit)
    bands = np.abs(chosen).reshape(len(place), _BANDS, _BAND_BITS)
    doubts = np.uint32(1) << np.argsort(bands, axis=2, kind="stable")[:, :, :_DOUBTS].astype(np.uint32)
    return Codes(np.full(len(place), number), place, bits, doubts)


def merged(codes: Sequence[Codes]) -> Codes:
    """The samples of all."""
    if not codes:
        return codes_of(0, np.zeros((0, DIMS), np.float32))
    return Codes(*(np.concatenate([getattr(some, name) for some in codes])
                   for name in ("source", "place", "bits", "doubts")))  # fmt: skip


def thinned(codes: Codes) -> Codes:
    """One source's samples for an index: those that differ from the last one kept."""
    keep, last = np.zeros(len(codes), bool), None
    for number, bits in enumerate(codes.bits.tolist()):
        if last is None or (bits ^ last).bit_count() >= _STEP:
            keep[number], last = True, bits
    return codes.some(keep)


def hits(
    queries: Sequence[tuple[int, Fingerprint]], index: "Index", enough: Callable[[int, int], float]
) -> NDArray[np.int64]:
    """(query, base, place of the variant in VARIANTS, offset) of all that meet, each once [M, 4], sorted.

    The query changed by the variant looks like the base; the offset is the base's place less the query's, in samples.

    Args:
        queries: Sources with their fingerprints.
        index: Where to look.
        enough: How many samples of a query must meet some sample of a base, by the numbers of both sources.

    """
    met = [np.zeros((0, 4), np.int64)]
    for number, variant in enumerate(VARIANTS):
        made = merged([codes_of(source, variant.of(print_.floats())) for source, print_ in queries])
        parts = [index.meet(made.some(slice(start, start + _CHUNK))) for start in range(0, len(made), _CHUNK)]
        if parts:
            found = _often(np.concatenate(parts), enough)
            met.append(np.insert(found, 2, number, axis=1))
    return np.unique(np.concatenate(met), axis=0)


def _often(met: NDArray[np.int64], enough: Callable[[int, int], float]) -> NDArray[np.int64]:
    """(query, base, offset) of those rows (query, base, place in the query, offset) whose pair meets often enough."""
    pairs, counts = np.unique(np.unique(met[:, :3], axis=0)[:, :2], axis=0, return_counts=True)
    good = [count >= enough(query, base) for (query, base), count in zip(pairs.tolist(), counts.tolist(), strict=True)]
    names = met[:, 0] << 32 | met[:, 1]
    chosen = pairs[np.array(good, bool)]
    return met[np.isin(names, chosen[:, 0] << 32 | chosen[:, 1])][:, [0, 1, 3]]


class Index:
    """Samples by the bands of their bits."""

    def __init__(self, codes: Codes) -> None:
        self._codes = codes
        # Bisected and not counted: a table of all values of a band costs a quarter of a second before the first source.
        self._orders = [np.argsort(codes.band(number), kind="stable") for number in range(_BANDS)]
        self._sorted = [codes.band(number)[order] for number, order in enumerate(self._orders)]

    def meet(self, queries: Codes) -> NDArray[np.int64]:
        """(query's source, base's source, query's place, offset) of each pair of samples that meet [M, 4]."""
        ways = [(number, flips) for number in range(_BANDS) for flips in range(1 << _DOUBTS)]
        if len(queries) > 1 and sum(int(self._ranges(queries, *way)[1].sum()) for way in ways) > _MOST_PAIRS:
            # Long sources that repeat themselves meet in millions of places.
            halves = slice(0, len(queries) // 2), slice(len(queries) // 2, None)
            return np.concatenate([self.meet(queries.some(half)) for half in halves])
        both = np.concatenate([self._meet_band(queries, *way) for way in ways])
        packed = np.unique(both[:, 0] << 32 | both[:, 1])
        asked, found = packed >> 32, packed & 0xFFFFFFFF
        base = self._codes
        near = np.bitwise_count(queries.bits[asked] ^ base.bits[found]) <= _FAR
        near &= queries.source[asked] != base.source[found]
        asked, found = asked[near], found[near]
        offset = base.place[found] - queries.place[asked]
        return np.stack([queries.source[asked], base.source[found], queries.place[asked], offset], axis=1)

    def _meet_band(self, queries: Codes, number: int, flips: int) -> NDArray[np.int64]:
        first, counts = self._ranges(queries, number, flips)
        asked = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.stack([asked, self._orders[number][np.repeat(first, counts) + within]], axis=1)

    def _ranges(self, queries: Codes, number: int, flips: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where in a band's order those begin that each query meets with some bits flipped, and how many there are."""
        band = queries.band(number)
        for doubt in range(_DOUBTS):
            if flips >> doubt & 1:
                band = band ^ queries.doubts[:, number, doubt]
        first, stop = (np.searchsorted(self._sorted[number], band, side) for side in ("left", "right"))
        return first, stop - first


def _lowest() -> NDArray[np.intp]:
    """The 63 lowest luma coefficients, dealt to the bands in turn, so that each band has coarse and fine ones."""
    rows, columns = np.divmod(np.arange(9 * 12), 12)
    height = (rows / 9) ** 2 + (columns / 12) ** 2
    chosen = np.argsort(height, kind="stable")[1 : 1 + _BANDS * _BAND_BITS] - 1
    return chosen.reshape(_BAND_BITS, _BANDS).T.reshape(-1)


_CHOSEN = _lowest()
