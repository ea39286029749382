"""Long videos by windows: the last frames of what there is are the first of the next window, and known to it.

Chunk by chunk, as in Ho et al. 2022, "Video Diffusion Models" (arXiv:2204.03458), section 3.1.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vidgen_core.applications.complete import Completed, Drawing, Given, complete
from vidgen_core.applications.generator import Generator
from vidgen_core.errors import VidgenError

__all__ = ["default_overlap", "extend"]


def extend(  # noqa: PLR0913 - what there is, how far, and how
    generator: Generator, video: NDArray[np.uint8], prompts: Sequence[str], *, frames: int | None = None,
    overlap: int | None = None, drawing: Drawing | None = None,
) -> Completed:  # fmt: skip
    """Videos that go on from a given one, one a prompt.

    A window's draws hang on the frame at which it begins: a video that was extended and is extended again is the same
    as one that was extended at once, where windows meet.

    Args:
        generator: Whose family accepts known elements.
        video: uint8 [T, H, W, 3]; any number of frames from 1.
        prompts: What to show.
        frames: Of the result, with those given; None is one window more.
        overlap: Frames of a window that are known from before; None is `default_overlap`.
        drawing: How.

    Raises:
        VidgenError: There are fewer frames than the overlap, fewer are wanted than there are, the overlap does not fit
            the codec's groups of frames, or see `complete`.

    """
    window, stride = generator.pixels[0], generator.codec.time_stride
    known = default_overlap(window, stride, len(video)) if overlap is None else overlap
    _check(len(video), window, stride, known)
    wanted = len(video) + window - known if frames is None else frames
    if wanted <= len(video):
        raise VidgenError(
            "The video is as long already", got=f"{len(video)} frames", move=f"Ask for more than {len(video)} --frames"
        )
    drawing = drawing or Drawing()
    whole, parts = np.stack([video] * len(prompts)), []
    while whole.shape[1] < wanted:
        start = whole.shape[1] - known
        part = complete(generator, _window(whole[:, start:], window), prompts, drawing.within("window", start))
        parts.append(part)
        whole = np.concatenate([whole, part.video[:, known:]], axis=1)
    told = [part.codec_psnr_db for part in parts if part.codec_psnr_db is not None]
    return Completed(whole[:, :wanted], parts[0].known_share, min(told, default=None))


def default_overlap(window: int, time_stride: int, there: int) -> int:
    """Frames known to the next window: about half of it, of what is there, in whole groups after the first."""
    groups = min((window - 1) // time_stride // 2, (there - 1) // time_stride)
    return 1 + max(0, groups) * time_stride


def _window(head: NDArray[np.uint8], frames: int) -> Given:
    count, known, *size = head.shape
    video = np.zeros((count, frames, *size), np.uint8)
    video[:, :known] = head
    mask = np.zeros(video.shape[:-1], np.bool_)
    mask[:, :known] = True
    return Given(video, mask)


def _check(there: int, window: int, stride: int, known: int) -> None:
    if there < known:
        raise VidgenError(
            "The video has too few frames to go on from",
            got=f"{there} at the model's frame rate",
            allowed=f"{known} or more",
            move="Give a longer video, or a smaller --overlap",
        )
    if not 1 <= known < window or (known - 1) % stride:
        raise VidgenError(
            "A window cannot know so many frames of the one before",
            got=known,
            allowed=f"1 + a multiple of {stride}, below {window}",
            move="Choose another --overlap",
        )
