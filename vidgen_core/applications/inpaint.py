"""A region of a video drawn anew. Lugmayr et al. 2022, "RePaint" (arXiv:2201.09865), for videos."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vidgen_core.applications.complete import Completed, Drawing, Given, complete
from vidgen_core.applications.generator import Generator
from vidgen_core.errors import VidgenError

__all__ = ["inpaint"]


def inpaint(
    generator: Generator, video: NDArray[np.uint8], hole: NDArray[np.bool_], prompts: Sequence[str],
    drawing: Drawing | None = None,
) -> Completed:  # fmt: skip
    """Videos like a given one but for a hole, one a prompt.

    Args:
        generator: Whose family accepts known elements.
        video: uint8 [T, H, W, 3] of the model's shape.
        hole: True where it is to be drawn anew, [T, H, W] or [H, W] for all frames.
        prompts: What to show.
        drawing: How.

    Raises:
        VidgenError: The hole has another size than the video, is empty, or see `complete`.

    """
    if hole.shape not in (video.shape[:3], video.shape[1:3]):
        raise VidgenError(
            "The mask has another size than the video",
            got=f"(..., height, width) {hole.shape}",
            allowed=f"{video.shape[1:3]} or {video.shape[:3]}",
        )
    if not hole.any():
        raise VidgenError("The mask has no hole, so there is nothing to draw", move="Mark with white what is to change")
    given = np.broadcast_to(~hole, video.shape[:3])
    count = len(prompts)
    return complete(
        generator, Given(np.stack([video] * count), np.stack([given] * count)), prompts, drawing
    )  # fmt: skip
