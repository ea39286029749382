"""What is in a folder of videos, before hours are spent on it: from packets alone, and on demand by a quick look.

Nothing is decoded for the index, so an hour of video takes less than a second of a core. The quick look finds shots
without the frames that no other frame needs, at about half of what decoding costs, and counts the clips that fit.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.decode import Opened, Undecodable, open_packets
from data_prep.packets import Packets, read_packets
from data_prep.placing import Lit, clip_places
from data_prep.quick_shots import quick_shots
from data_prep.run import Failure, Runner
from data_prep.settings import DataSettings
from data_prep.sources import list_files
from vidgen_core.frozen import Frozen

__all__ = ["Indexed", "hours", "index", "index_file"]


class Indexed(Frozen):
    """A file as its packets tell it.

    Args:
        uri: Its path below the folder.
        problem: Why there is nothing to tell, a word; "" where there is.
        container, codec: Their names.
        width, height: In px, as stored.
        frame_rate: Mean rate as a fraction.
        duration_s: From the first frame to the end of the last.
        frames: Frames that are shown.
        keyframes: Where a player can begin.
        shots, clips: By the quick look; null without one.

    """

    uri: str
    problem: str = ""
    container: str = ""
    codec: str = ""
    width: int = 0
    height: int = 0
    frame_rate: str = ""
    duration_s: float = 0.0
    frames: int = 0
    keyframes: int = 0
    shots: int | None = None
    clips: int | None = None


def index(videos: Path, settings: DataSettings, runner: Runner, *, look: bool = False) -> list[Indexed]:
    """All files of a folder, in order.

    Args:
        videos: The folder.
        settings: Which shots and clips are wanted.
        runner: Who does it.
        look: Whether to look for shots.

    Raises:
        VidgenError: The folder has no videos.

    """
    work = partial(_named, videos=videos, settings=settings if look else None)
    told = [
        Indexed(uri=_uri(file, videos), problem=found.reason) if isinstance(found, Failure) else found
        for file, found in runner.map(work, list_files(videos), deadline_s=settings.source_deadline_s)
    ]
    return sorted(told, key=lambda one: one.uri)


def index_file(file: Path, settings: DataSettings | None = None) -> Indexed:
    """One file; with settings also its shots, and the clips that fit into them.

    Raises:
        Undecodable: It is no video, or nothing in it can be decoded by the look.

    """
    opened = open_packets(file)
    with opened.container:
        packets, stream = read_packets(opened), opened.stream
        times_s = _times_s(packets, opened)
        told = Indexed(
            uri=file.name,
            container=opened.container.format.name,
            codec=stream.codec_context.name,
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            frame_rate=str(stream.average_rate or ""),
            duration_s=float(times_s[-1] + np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0,
            frames=len(times_s),
            keyframes=int((packets.keys & packets.shown).sum()),
        )
        sar = opened.sar
    return told if settings is None else _looked(file, told, times_s, sar, settings)


def _looked(file: Path, told: Indexed, times_s: NDArray[np.float64], sar: Fraction, settings: DataSettings) -> Indexed:
    look, shapes = quick_shots(file, settings.shots), settings.each_shape()
    # Only frames tell how they are turned. The look does not see bars.
    turned = look.rotation % 180 != 0
    wide, high = (told.height / sar, told.width) if turned else (told.width * sar, told.height)
    lit = Lit(wide, Fraction(high))
    # The decoder may show frames more or less than the packets tell.
    last = len(times_s) - 1
    clips = sum(
        len(clip_places(times_s, first, min(stop, last + 1), lit, shapes)) for first, stop in look.spans if first < last
    )
    return told.model_copy(update={"shots": len(look.spans), "clips": clips})


def _times_s(packets: Packets, opened: Opened) -> NDArray[np.float64]:
    """When each frame is shown, in seconds from the first; at the mean rate where the packets do not tell."""
    if packets.whole:
        pts = packets.shown_pts
        return np.asarray((pts - pts[:1]) * float(opened.time_base), np.float64)
    rate = opened.stream.average_rate or opened.stream.guessed_rate or Fraction(25)
    return np.arange(int(packets.shown.sum())) / float(rate)


def _named(file: Path, *, videos: Path, settings: DataSettings | None) -> Indexed:
    try:
        return index_file(file, settings).model_copy(update={"uri": _uri(file, videos)})
    except Undecodable as error:
        return Indexed(uri=_uri(file, videos), problem=error.reason)


def _uri(file: Path, videos: Path) -> str:
    return file.relative_to(videos).as_posix()


def hours(files: Sequence[Indexed]) -> float:
    """Hours of all together."""
    return sum(one.duration_s for one in files) / 3600
