"""A picture that begins to move: its video's first frame is given.

Zheng et al. 2024, "Open-Sora" (arXiv:2412.20404), section 4.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vidgen_core.applications.complete import Completed, Drawing, Given, complete
from vidgen_core.applications.generator import Generator

__all__ = ["animate"]


def animate(
    generator: Generator, picture: NDArray[np.uint8], prompts: Sequence[str], drawing: Drawing | None = None
) -> Completed:
    """Videos that begin with a picture uint8 [H, W, 3], one a prompt.

    Raises:
        VidgenError: See `complete`.

    """
    frames = generator.pixels[0]
    video = np.broadcast_to(picture, (len(prompts), frames, *picture.shape)).copy()
    mask = np.zeros(video.shape[:-1], np.bool_)
    mask[:, 0] = True
    return complete(generator, Given(video, mask), prompts, drawing)
