"""Our own clips: H.264 in a table row, closed groups of pictures, constant rate; and exact time.

decord is fast and right on exactly such files; sources, which can be anything, are never read with it.
"""

import io
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from vidgen_core.errors import VidgenError

__all__ = ["decode_clips", "parse_rate"]


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
