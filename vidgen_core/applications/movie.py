"""What somebody asks of a generator, to an mp4: one way for the command line and for a server, so their bytes agree."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from vidgen_core.applications.generator import Generator
from vidgen_core.clip import encode
from vidgen_core.errors import VidgenError
from vidgen_core.sampling import Sampling

__all__ = ["asked_for", "movie"]

_LEAST_SIDE_PX = 128


def asked_for(generator: Generator, changes: Mapping[str, Any], conditions: Sequence[str] = ()) -> Sampling:
    """The model's own way of drawing with changes.

    Args:
        generator: Whose.
        changes: Fields of its `Sampling`; None leaves one as it is.
        conditions: Scores to ask for besides the model's own, as "motion=80%", "motion=1.5" or "motion=null".

    Raises:
        VidgenError: The model cannot do that, or it means nothing.

    """
    if changes.get("guidance") is not None and not generator.family.has_guidance:
        raise VidgenError("This model cannot be guided", got=f"family {generator.card.family}", move="Drop --guidance")
    own = generator.card.sampling
    wanted = {name: value for name, value in changes.items() if value is not None}
    try:
        Sampling.model_validate(wanted)
    except ValidationError as error:
        told = error.errors()[0]
        raise VidgenError(f"{told['loc'][0]} cannot be so: {told['msg']}", got=str(told["input"])) from error
    return own.model_copy(update={**wanted, "conditions": _conditions(own, conditions)})


def movie(videos: NDArray[np.uint8], rate: str) -> bytes:
    """Videos [N, T, H, W, 3] side by side as an mp4; small ones are enlarged without smoothing."""
    factor = max(1, _LEAST_SIDE_PX // videos.shape[2])
    large = videos.repeat(factor, axis=2).repeat(factor, axis=3)
    return encode(np.concatenate(list(large), axis=2), rate)


def _conditions(sampling: Sampling, told: Sequence[str]) -> dict[str, float | str]:
    """The model's own conditions with changes."""
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
