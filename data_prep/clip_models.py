"""CLIP models over stills and captions, for scorers and duplicates."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from data_prep.scorers._weights import Stills
from vidgen_core.encoders._open_clip import load_open_clip

__all__ = ["Clip", "open_clip_model"]


class Clip:
    """A model with its transform and tokenizer."""

    def __init__(self, model: Any, transform: Any, tokenizer: Any) -> None:
        self._model, self._transform, self._tokenizer = model, transform, tokenizer
        self._last: tuple[Stills, NDArray[np.float32]] | None = None

    @torch.inference_mode()
    def pictures(self, stills: Stills) -> NDArray[np.float32]:
        """Embeddings of pictures [N, D], as the model gives them; those of the last stills are kept for other heads."""
        if self._last is None or self._last[0] is not stills:
            images = torch.stack([self._transform(Image.fromarray(still)) for still in stills])
            self._last = stills, self._model.encode_image(images).float().numpy()
        return self._last[1]

    @torch.inference_mode()
    def text(self, caption: str) -> NDArray[np.float32]:
        """Embedding of a text [D], as the model gives it; what is longer than its context is cut off."""
        return self._model.encode_text(self._tokenizer([caption]))[0].float().numpy()


@lru_cache(maxsize=4)
def open_clip_model(model: str, weights: str) -> Clip:
    """Open a checkpoint file, or a tag that open_clip knows and downloads; once in a process.

    Raises:
        VidgenError: As `load_open_clip` does.

    """
    opened = load_open_clip(model, weights)
    return Clip(opened.model, opened.transform, opened.tokenizer)
