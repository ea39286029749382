"""Laws of encoded clips."""

import numpy as np
from PIL import Image

from vidgen_core.clip import encode


def test_the_bytes_of_a_clip_are_a_function_of_its_pictures_whatever_is_left_in_memory():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (9, 6, 6, 3), np.uint8)
    clip = np.stack([np.asarray(Image.fromarray(one).resize((96, 96), Image.Resampling.BICUBIC)) for one in small])
    made = set()
    for _ in range(12):
        left = [np.full(rng.integers(1_000, 90_000), rng.integers(0, 255), np.uint8) for _ in range(300)]
        del left
        made.add(encode(clip, "8"))
    assert len(made) == 1
