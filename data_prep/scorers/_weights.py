"""Files of weights: their digests, and heads on embeddings."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from data_prep.score_settings import ClipHeadSettings
from vidgen_core import digests
from vidgen_core.errors import VidgenError

__all__ = [
    "ClipHead",
    "Head",
    "Scorer",
    "Stills",
    "file_digest",
    "head_digest",
    "named_digest",
    "read_logistic",
    "read_regressor",
]

Stills = Sequence[NDArray[np.uint8]]


class Scorer(Protocol):
    """What `open_scorer(settings)` of a file in `data_prep/scorers` gives."""

    def score(self, stills: Stills, caption: str) -> dict[str, float | None]:
        """The scorer's columns for one span, from its stills [H, W, 3] in RGB; null where it has nothing to say."""
        ...


class Head(NamedTuple):
    """Layers (weight [out, in], bias [out]) that follow each other without anything between."""

    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

    def __call__(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeddings [N, in] to values [N].

        Raises:
            VidgenError: The embeddings are not as wide as the head expects.

        """
        wanted, width = self.layers[0][0].shape[1], embeddings.shape[1]
        if wanted != width:
            raise VidgenError(
                "The head does not fit the model below it",
                got=f"a head for embeddings of {wanted}, and a model that makes {width}",
                move="Set model and backbone of that score to the ones that the head was trained on",
            )
        values = embeddings
        for weight, bias in self.layers:
            values = values @ weight.T + bias
        return values[:, 0]


def head_digest(scorer: str, settings: ClipHeadSettings) -> str:
    """Of a head and the model below it."""
    own = [file_digest(settings.weights, scorer), settings.model, named_digest(settings.backbone)]
    return digests.of_value(own)


class ClipHead:
    """A head and the CLIP below it.

    Args:
        settings: Where they are.
        read: Reads the head's file.

    Raises:
        VidgenError: One of them cannot be read.

    """

    def __init__(self, settings: ClipHeadSettings, read: Callable[[str], Head]) -> None:
        from data_prep.clip_models import open_clip_model

        self._clip, self._head = open_clip_model(settings.model, settings.backbone), read(settings.weights)

    def of_units(self, stills: Stills) -> NDArray[np.float32]:
        """The head's values of embeddings of length one [N]."""
        embeddings = self._clip.pictures(stills)
        return self._head(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True))

    def probabilities(self, stills: Stills) -> NDArray[np.float64]:
        """The logistic function of its values of embeddings as the model gives them [N]."""
        return 1 / (1 + np.exp(-self._head(self._clip.pictures(stills)).astype(np.float64)))


def named_digest(name: str) -> str:
    """Of a file by its bytes; of a tag, which the library downloads, by its name."""
    return file_digest(name, "weights") if Path(name).is_file() else name


@lru_cache(maxsize=32)
def file_digest(name: str, setting: str) -> str:
    """Of a file's bytes.

    Raises:
        VidgenError: There is no such file.

    """
    file = Path(name)
    if not file.is_file():
        raise VidgenError("There is no such file of weights", got=name, move=f"Correct data.scores.{setting}.weights")
    return digests.of_file(file)


def read_regressor(name: str) -> Head:
    """LAION's heads: "weight" and "bias", or "layers.N.weight" and "layers.N.bias" in the order of N.

    Raises:
        VidgenError: The file is no such head.

    """
    import torch

    try:
        state = torch.load(name, map_location="cpu", weights_only=True)
        return Head(tuple((_matrix(state[f"{at}weight"]), _vector(state[f"{at}bias"])) for at in _layers(state)))
    except Exception as error:
        raise _unreadable(name, "a linear head or LAION's layers, as a state dict of torch", error) from error


def read_logistic(name: str) -> Head:
    """A logistic head as .npz: "weights" [in] and "biases" []; the logistic function is left to the caller.

    Raises:
        VidgenError: The file is no such head.

    """
    try:
        with np.load(name, allow_pickle=False) as arrays:
            return Head(((_matrix(arrays["weights"]), _vector(arrays["biases"])),))
    except Exception as error:
        raise _unreadable(name, "an .npz file with weights and biases", error) from error


def _layers(state: Mapping[str, Any]) -> list[str]:
    if "weight" in state:
        return [""]
    numbers = sorted({int(key.split(".")[1]) for key in state if key.startswith("layers.")})
    if not numbers:
        raise KeyError("weight")
    return [f"layers.{number}." for number in numbers]


def _matrix(values: Any) -> NDArray[np.float32]:
    return np.atleast_2d(np.asarray(values, np.float32))


def _vector(values: Any) -> NDArray[np.float32]:
    return np.atleast_1d(np.asarray(values, np.float32))


def _unreadable(name: str, allowed: str, error: Exception) -> VidgenError:
    what = f"This file cannot be read as a head: {str(error).splitlines()[0][:200] if str(error) else type(error)}"
    return VidgenError(what, got=name, allowed=allowed, move="Name another file in data.scores")
