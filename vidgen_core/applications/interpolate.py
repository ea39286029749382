"""What happens between given frames: between two pictures, or between the key frames of a video."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vidgen_core.applications.complete import Completed, Drawing, Given, complete
from vidgen_core.applications.generator import Generator
from vidgen_core.errors import VidgenError

__all__ = ["between", "between_keys", "key_frames"]


def between(
    generator: Generator, first: NDArray[np.uint8], last: NDArray[np.uint8], prompts: Sequence[str],
    drawing: Drawing | None = None,
) -> Completed:  # fmt: skip
    """Videos that begin with one picture uint8 [H, W, 3] and end with another, one a prompt.

    Codecs code groups of frames after the first: the last picture is shown for the whole of its group.

    Raises:
        VidgenError: The pictures differ in size, or see `complete`.

    """
    if first.shape != last.shape:
        raise VidgenError("Two pictures of one size are needed", got=f"{first.shape} and {last.shape}")
    frames, held = generator.pixels[0], generator.codec.time_stride
    if frames <= 1 + held:
        raise VidgenError("There is nothing between the first frame and the last", got=f"videos of {frames} frames")
    video = np.stack([first] * (frames - held) + [last] * held)
    keys = np.zeros(frames, np.bool_)
    keys[0], keys[-held:] = True, True
    return _around(generator, video, keys, prompts, drawing)


def between_keys(
    generator: Generator, video: NDArray[np.uint8], prompts: Sequence[str], *, every: int = 2,
    drawing: Drawing | None = None,
) -> Completed:  # fmt: skip
    """Videos that agree with a given one uint8 [T, H, W, 3] in its key frames, one a prompt.

    Raises:
        VidgenError: The video has too few frames, or see `complete` and `key_frames`.

    """
    frames = generator.pixels[0]
    if len(video) < frames:
        raise VidgenError(
            "The video has too few frames to interpolate",
            got=f"{len(video)} at the model's frame rate",
            allowed=f"{frames} or more",
            move="Give a longer video, or two pictures",
        )
    keys = key_frames(frames, generator.codec.time_stride, every)
    return _around(generator, video[:frames], keys, prompts, drawing)


def key_frames(frames: int, time_stride: int, every: int) -> NDArray[np.bool_]:
    """Which frames are key frames [T]: the first, and of the codec's groups after it every so many-th, and the last.

    Raises:
        VidgenError: Nothing would be left to draw.

    """
    groups = np.zeros(1 + (frames - 1) // time_stride, np.bool_)
    groups[::every], groups[-1] = True, True
    if every < 2 or groups.all():
        raise VidgenError(
            "Between these key frames there is nothing to draw", got=f"every={every} of {len(groups)} groups of frames"
        )
    return np.repeat(groups, [1] + [time_stride] * (len(groups) - 1))


def _around(
    generator: Generator, video: NDArray[np.uint8], keys: NDArray[np.bool_], prompts: Sequence[str],
    drawing: Drawing | None,
) -> Completed:  # fmt: skip
    mask = np.broadcast_to(keys[:, None, None], video.shape[:3])
    count = len(prompts)
    return complete(
        generator, Given(np.stack([video] * count), np.stack([mask] * count)), prompts, drawing
    )  # fmt: skip
