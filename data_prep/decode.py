"""One sequential pass over a source, which survives bad packets and hides what containers do to pictures.

Nothing is ever sought, so the frames are right for open groups of pictures, edit lists, variable rates and all else.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

__all__ = [
    "Opened",
    "Picks",
    "Undecodable",
    "as_bytes",
    "demuxed",
    "open_file",
    "open_packets",
    "open_source",
    "take_decoded",
    "upright",
]

_MOST_DEMUX_ERRORS = 64
# Formats that say in their headers what others tell only with their pictures.
_TOLD_BY_HEADERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
# Counted where decoding happens, so that no pass can forget to; a process works on one unit at a time.
_decoded_here = [0]


class _Here(threading.local):
    """A thread's converter, made once and for one core: by default each frame gets a new one that takes all cores."""

    def __init__(self) -> None:
        self.converter = VideoReformatter()


_here = _Here()


@dataclass(frozen=True)
class Picks:
    """Which packets of a pass are decoded.

    Attributes:
        needed: Whether it is decoded at all [packets].
        wanted: Whether its frame is asked for; of the others, frames that no other frame needs are skipped [packets].

    """

    needed: NDArray[np.bool_]
    wanted: NDArray[np.bool_]


class Undecodable(Exception):  # noqa: N818 - a verdict on a file, not a mistake of ours
    """A file without a picture that can be decoded; `reason` is a word for tables, the message a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason, self.message = reason, message


@dataclass
class Opened:
    """A source that is open for one pass.

    Attributes:
        container: The open file.
        stream: Its best video stream.
        bad_packets: Packets that could not be read or decoded so far.
        decoded: Frames that came out of the decoder so far.
        packet_pts: Times that packets told so far, also of frames that the decoder was told to skip.
        rotation: Degrees counter-clockwise to turn a picture for showing; known after the first frame.

    """

    container: av.container.InputContainer
    stream: av.VideoStream
    bad_packets: int = 0
    decoded: int = 0
    rotation: int = 0
    first_pts: int | None = None
    packet_pts: list[int] = field(default_factory=list, repr=False)
    _last_pts: int | None = field(default=None, repr=False)

    @property
    def time_base(self) -> Fraction:
        """Seconds of one tick."""
        return self.stream.time_base or Fraction(1, 1000)

    @property
    def sar(self) -> Fraction:
        """Width over height of a pixel; 1 when the file does not say or says nonsense."""
        sar = self.stream.sample_aspect_ratio
        return sar if sar and Fraction(1, 8) <= sar <= 8 else Fraction(1)

    @property
    def upright_sar(self) -> Fraction:
        """The same of a pixel of the picture turned for showing."""
        return 1 / self.sar if self.rotation % 180 else self.sar

    def frames(self, picks: Picks | None = None) -> Iterator[tuple[int, av.VideoFrame]]:
        """(pts, frame) in presentation order; a frame without a usable time follows the last by a nominal step.

        With `picks` those that are asked for, and others that had to be decoded for them.
        """
        rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        step = max(1, round(1 / (rate * self.time_base)))
        for frame in self._decoded() if picks is None else self._picked(picks):
            pts = frame.pts
            if pts is None or (self._last_pts is not None and pts <= self._last_pts):
                pts = 0 if self._last_pts is None else self._last_pts + step
            if self.first_pts is None:
                self.first_pts, self.rotation = pts, round(frame.rotation / 90) * 90
            self._last_pts = pts
            yield pts, frame

    def _decoded(self) -> Iterator[av.VideoFrame]:
        for packet in self.packets():
            if packet.pts is not None and not packet.is_discard:
                self.packet_pts.append(packet.pts)
            yield from self._frames_of(packet)

    def _picked(self, picks: Picks) -> Iterator[av.VideoFrame]:
        context, last = self.stream.codec_context, int(np.flatnonzero(picks.needed)[-1])
        for number, packet in enumerate(self.packets()):
            if number > last:
                break
            if picks.needed[number]:
                # Of H.264 it is sure that a picture that calls itself no reference is none.
                spare = context.name == "h264" and not picks.wanted[number]
                context.skip_frame = "NONREF" if spare else "DEFAULT"
                yield from self._frames_of(packet)
        yield from self._frames_of(None)

    def _frames_of(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        """What the decoder gives for one more packet, or in the end."""
        try:
            frames = self.stream.decode(packet)
        except MemoryError:
            raise  # no bad packet: the next one would be as large
        except av.error.FFmpegError:
            self.bad_packets += 1
            return []
        self.decoded += len(frames)
        _decoded_here[0] += len(frames)
        return frames

    def packets(self) -> Iterator[av.Packet]:
        """All packets; a reading error is counted."""
        return demuxed(self.container, self.stream, self._count_bad)

    def _count_bad(self) -> None:
        self.bad_packets += 1


def demuxed(
    container: av.container.InputContainer, stream: av.stream.Stream, bad: Callable[[], None] = lambda: None
) -> Iterator[av.Packet]:
    """All packets of a stream; reading goes on behind an error, as the ffmpeg program does, and `bad` is told of it."""
    errors = 0
    while True:
        try:
            yield from container.demux(stream)
            return
        except (av.error.EOFError, IndexError):
            # At the end PyAV flushes streams that it does not know too: those that came up while it read.
            return
        except av.error.FFmpegError:
            bad()
            errors += 1
            if errors > _MOST_DEMUX_ERRORS:
                return


def take_decoded() -> int:
    """Frames decoded in this process since this was last asked: what a unit of work has cost."""
    taken, _decoded_here[0] = _decoded_here[0], 0
    return taken


def open_packets(file: Path) -> Opened:
    """Open a file at its best video stream to read packets and to decode nothing.

    FFmpeg decodes some frames of each file that it opens, to learn what most headers say already: here only of those
    that do not say it, which makes opening eight times as fast.

    Raises:
        Undecodable: As for `open_source`.

    """
    container = open_file(file, {"codec_whitelist": "none"})
    # Which of several streams is the best depends on how far each of them decodes.
    contexts = [stream.codec_context for stream in container.streams.video]
    sized = len(contexts) == 1 and contexts[0] is not None and contexts[0].width > 0
    if sized and container.format.name in _TOLD_BY_HEADERS:
        return _at_best(container)
    container.close()
    return open_source(file)


def open_source(file: Path) -> Opened:
    """Open a file at its best video stream.

    Raises:
        Undecodable: It is empty, no video, or has no picture.

    """
    return _at_best(open_file(file))


def _at_best(container: av.container.InputContainer) -> Opened:
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        container.close()
        raise Undecodable("no_picture", "The file has no video stream")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        container.close()
        raise Undecodable("no_decoder", "There is no decoder for its video stream")
    stream.codec_context.thread_count = 1
    return Opened(container, stream)


def open_file(file: Path, options: dict[str, str] | None = None) -> av.container.InputContainer:
    """Open a file, whatever streams it has, with options of FFmpeg's.

    Raises:
        Undecodable: It is empty, or no demuxer recognizes it.

    """
    if file.stat().st_size == 0:
        raise Undecodable("empty_file", "The file has no bytes")
    try:
        return av.open(str(file), metadata_errors="replace", options=options or {})
    except (av.error.FFmpegError, ValueError) as error:
        raise Undecodable("not_a_video", f"No decoder recognizes the file: {_plain(error)}") from error


def as_bytes(frame: av.VideoFrame, pixels: str) -> NDArray[np.uint8]:
    """The frame converted to an 8-bit format: "rgb24" [H, W, 3] or "gray" [H, W]."""
    return np.asarray(_here.converter.reformat(frame, format=pixels, threads=1).to_ndarray(), np.uint8)


def upright(picture: NDArray[np.uint8], rotation: int) -> NDArray[np.uint8]:
    """A picture [H, W, ...] turned for showing; `rotation` is counter-clockwise in degrees."""
    return np.rot90(picture, k=rotation // 90 % 4)


def _plain(error: Exception) -> str:
    return str(error).split(";")[0].split(": '")[0]
