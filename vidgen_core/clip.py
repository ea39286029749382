"""Our own clips: H.264 in a table row, closed groups of pictures, constant rate; and exact time.

decord is fast and right on exactly such files; sources, which can be anything, are never read with it.
"""

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from vidgen_core.errors import VidgenError

__all__ = ["decode_clips", "encode", "parse_rate"]

_X264 = {"crf": "18", "preset": "veryfast", "tune": "fastdecode", "g": "48", "flags": "+cgop+bitexact",
         # x264's macroblock tree is not exact: it gives other bytes from one time to the next with AVX-512.
         "x264-params": "mbtree=0"}  # fmt: skip
_ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


def decode_clips(media: Sequence[bytes]) -> NDArray[np.uint8]:
    """Decode clips of one shape to uint8 [N, T, H, W, 3].

    Raises:
        VidgenError: A clip cannot be decoded; the table is damaged.

    """
    import decord

    clips = []
    for place, data in enumerate(media):
        try:
            reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
            clips.append(reader.get_batch(range(len(reader))).asnumpy())
        except (decord.DECORDError, RuntimeError) as error:
            raise VidgenError(
                f"Clip {place} of a batch cannot be decoded, so the clips table is damaged",
                move="Delete the home's tables/clips folder and run prepare again",
            ) from error
    return np.stack(clips)


def encode(video: NDArray[np.uint8], rate: str) -> bytes:
    """uint8 [T, H, W, 3] to an mp4 of H.264, closed groups of pictures; the bytes are a function of the pictures.

    It is done in this process: starting a program for each clip takes longer than encoding one.
    """
    _, height, width, _ = video.shape
    converter, out = VideoReformatter(), io.BytesIO()
    with av.open(out, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(rate), options=_X264)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.thread_count, context.colorspace, context.color_range = 1, Colorspace.ITU601, ColorRange.MPEG
        for number, picture in enumerate(video):
            frame = converter.reformat(
                VideoFrame.from_ndarray(picture, "rgb24"),
                format="yuv420p",
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
                interpolation=_ACCURATE,
                threads=1,
            )
            frame.pts, frame.time_base = number, 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def parse_rate(text: str) -> Fraction:
    """A frame rate as it is written in recipes and tables: "8", "24000/1001".

    Raises:
        VidgenError: It is not a positive fraction.

    """
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise VidgenError("Not a frame rate", got=text, allowed="a positive fraction such as 8 or 24000/1001")
    return rate
