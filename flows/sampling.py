"""Videos from a registered model, into a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from data_prep.clips import encode
from flows.home import Home
from flows.wishes import Wish, drawn_around
from vidgen_core.applications.complete import Drawing
from vidgen_core.applications.generator import Generator, check_prompt
from vidgen_core.errors import VidgenError
from vidgen_core.registry.models import fetch
from vidgen_core.sampling import Sampling

__all__ = ["draw"]

_LEAST_SIDE_PX = 128


def draw(  # noqa: PLR0913 - what, from which model, where to, and how
    home: Home,
    model: str,
    prompts: Sequence[str],
    out: Path,
    *,
    seed: int,
    changes: Mapping[str, Any],
    conditions: Sequence[str],
    wish: Wish | None = None,
) -> list[str]:
    """Write an mp4 of one video a prompt, side by side; small videos are enlarged without smoothing.

    Args:
        home: Whose registry.
        model: `name@alias` or `name/version`.
        prompts: What to show.
        out: An .mp4 file.
        seed: Of the noise.
        changes: Fields of the model's `Sampling`; None leaves one as it is.
        conditions: Scores to ask for besides the model's own, as "motion=80%".
        wish: What to draw around; nothing if None.

    Returns:
        What the user should know, in sentences.

    Raises:
        VidgenError: A prompt, the model or the file will not do.

    """
    wish = wish or Wish()
    task = wish.task
    for prompt in prompts:
        check_prompt(prompt)
    if out.suffix.lower() != ".mp4" or not out.absolute().parent.is_dir():
        raise VidgenError(
            "Videos cannot be written there", got=str(out), allowed="an .mp4 file in a folder that exists"
        )
    generator = Generator.load(fetch(home.mlflow_uri, model, home.cache_dir))
    if changes.get("guidance") is not None and not generator.family.has_guidance:
        raise VidgenError("This model cannot be guided", got=f"family {generator.card.family}", move="Drop --guidance")
    own = generator.card.sampling
    wanted = {name: value for name, value in changes.items() if value is not None}
    sampling = own.model_copy(update={**wanted, "conditions": _conditions(own, conditions)})
    if task:
        videos, notes = drawn_around(generator, wish, prompts, Drawing(seed, sampling, wish.rounds))
    else:
        videos, notes = generator.videos(prompts, seed=seed, sampling=sampling), []
    factor = max(1, _LEAST_SIDE_PX // videos.shape[2])
    large = videos.repeat(factor, axis=2).repeat(factor, axis=3)
    out.write_bytes(encode(np.concatenate(list(large), axis=2), generator.card.frame_rate))
    return notes


def _conditions(sampling: Sampling, told: Sequence[str]) -> dict[str, float | str]:
    """The model's own conditions with changes such as "motion=80%", "motion=1.5" and "motion=null"."""
    asked: dict[str, object] = {**sampling.conditions}
    for one in told:
        name, _, value = one.partition("=")
        asked[name] = value
    try:
        kept = {name: value for name, value in asked.items() if value != "null"}
        return Sampling.model_validate({"conditions": kept}).conditions
    except ValidationError as error:
        raise VidgenError(
            "That is no condition", got=", ".join(told), allowed="NAME=80%, NAME=1.5 or NAME=null"
        ) from error
