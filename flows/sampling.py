"""Videos from a registered model, into a file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.clips import encode
from flows.home import Home
from vidgen_core.applications.generator import Generator, check_prompt
from vidgen_core.errors import VidgenError
from vidgen_core.registry.models import fetch

__all__ = ["draw"]

_LEAST_SIDE_PX = 128


def draw(
    home: Home,
    model: str,
    prompts: Sequence[str],
    out: Path,
    *,
    seed: int,
    steps: int | None,
    guidance: float | None,
) -> None:
    """Write an mp4 of one video a prompt, side by side; small videos are enlarged without smoothing.

    Raises:
        VidgenError: A prompt, the model or the file will not do.

    """
    for prompt in prompts:
        check_prompt(prompt)
    if out.suffix.lower() != ".mp4" or not out.absolute().parent.is_dir():
        raise VidgenError(
            "Videos cannot be written there", got=str(out), allowed="an .mp4 file in a folder that exists"
        )
    generator = Generator.load(fetch(home.mlflow_uri, model, home.cache_dir))
    changes = {name: value for name, value in (("steps", steps), ("guidance", guidance)) if value is not None}
    videos = generator.videos(prompts, seed=seed, sampling=generator.card.sampling.model_copy(update=changes))
    factor = max(1, _LEAST_SIDE_PX // videos.shape[2])
    large = videos.repeat(factor, axis=2).repeat(factor, axis=3)
    out.write_bytes(encode(np.concatenate(list(large), axis=2), generator.card.frame_rate))
