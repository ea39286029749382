"""What the packets of a source tell before any is decoded: when its frames are shown, and what decoding each one takes.

An index costs about a hundredth of a decode. It is believed only as far as decoding confirms it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import av
import numpy as np
from numpy.typing import NDArray

from data_prep.decode import Opened, Picks

__all__ = ["Packets", "read_packets"]

# Kinds of the units that packets are made of (ITU-T H.264 table 7-1, H.265 table 7-1): slices of pictures, slices of
# pictures behind which nothing refers to anything before them, and parameter sets.
_SLICES = {"h264": range(1, 6), "hevc": range(32)}
_FRESH = {"h264": (5,), "hevc": (19, 20)}
_PARAMETERS = {"h264": (7, 8, 13, 15), "hevc": (32, 33, 34)}
# Byte of the header that tells how many bytes a unit's length has, less one, in its lower two bits.
_LENGTH_AT = {"h264": 4, "hevc": 21}


@dataclass(frozen=True)
class Packets:
    """Packets of a source's video, in the order of the file, which is that of decoding.

    Attributes:
        pts: Ticks at which the frame of each is shown, int64 [packets].
        shown: Whether it is; edit lists hide some [packets].
        fresh: Whether decoding may begin at it, exactly as if all before had been decoded [packets].
        keys: Whether its container calls it a keyframe [packets].
        whole: Whether all were read, and each has a time of its own.

    """

    pts: NDArray[np.int64]
    shown: NDArray[np.bool_]
    fresh: NDArray[np.bool_]
    keys: NDArray[np.bool_]
    whole: bool

    @cached_property
    def shown_pts(self) -> NDArray[np.int64]:
        """Times of the frames that are shown, in order."""
        return np.unique(self.pts[self.shown])

    def picks(self, wanted_pts: Sequence[int] | NDArray[np.int64]) -> Picks:
        """The packets that the frames of these times need: those from the last fresh one on."""
        wanted = np.isin(self.pts, wanted_pts) & self.shown
        places = np.flatnonzero(wanted)
        fresh = np.flatnonzero(self.fresh)
        starts = fresh[np.searchsorted(fresh, places, side="right") - 1]
        ends = np.zeros(len(self.pts) + 1, np.int64)
        np.add.at(ends, starts, 1)
        np.subtract.at(ends, places + 1, 1)
        return Picks(np.cumsum(ends[:-1]) > 0, wanted)


def read_packets(opened: Opened) -> Packets:
    """Read all packets of an open source; it can be read only once."""
    begins = _begins(opened.stream)
    pts: list[int | None] = []
    shown: list[bool] = []
    fresh: list[bool] = []
    keys: list[bool] = []
    plain, ends = True, 0
    for packet in opened.packets():
        if not packet.size:
            ends += 1
            continue
        kind = begins(packet)
        # Asking by name costs twenty times what looking through none does.
        plain = plain and kind is not None and "new_extradata" not in [one.data_type for one in packet.iter_sidedata()]
        pts.append(packet.pts)
        shown.append(not packet.is_discard)
        fresh.append(bool(kind))
        keys.append(packet.is_keyframe)
    told = [time for time in pts if time is not None]
    whole = len(told) == len(pts) == len(set(told)) and ends <= 1 and not opened.bad_packets
    starts = np.array(fresh if plain else [False] * len(pts), bool)
    starts[:1] = True
    return Packets(
        np.array(told if whole else [], np.int64), np.array(shown, bool), starts, np.array(keys, bool), whole
    )


def _begins(stream: av.VideoStream) -> Callable[[av.Packet], bool | None]:
    """Whether a packet is fresh, or None where it changes parameters, on which any packet behind it may depend."""
    codec, header = stream.codec_context.name, stream.codec_context.extradata or b""
    if codec not in _FRESH or len(header) <= _LENGTH_AT[codec] or header[0] != 1:
        # Of other codecs, and of units between start codes, only the first packet is surely fresh.
        return lambda _: False
    width = (header[_LENGTH_AT[codec]] & 3) + 1
    shift, mask = (0, 31) if codec == "h264" else (1, 63)
    parameters, slices, fresh = _PARAMETERS[codec], _SLICES[codec], _FRESH[codec]

    def begins(packet: av.Packet) -> bool | None:
        # Units lie behind their lengths. Parameters come before the first slice, and all slices of a picture are alike.
        data, at = memoryview(packet), 0
        while at + width < len(data):
            kind = data[at + width] >> shift & mask
            if kind in parameters:
                return None
            if kind in slices:
                return kind in fresh
            at += width + int.from_bytes(data[at : at + width], "big")
        return False

    return begins
