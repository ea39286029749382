"""CLIP models of open_clip. Radford et al. 2021, "Learning transferable visual models" (arXiv:2103.00020)."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from data_prep.scorers._weights import Stills
from vidgen_core.errors import VidgenError, did_you_mean

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
        VidgenError: open_clip is not installed, has no such model, or cannot read these weights.

    """
    try:
        import open_clip
    except ImportError as error:
        move = "Install it with: pip install 'vidgen[scores]'"
        raise VidgenError("A CLIP model needs open_clip", move=move) from error
    known = open_clip.list_models()
    if model not in known:
        raise VidgenError(f"open_clip has no model {model!r}", move=did_you_mean(model, known))
    try:
        opened, _, transform = open_clip.create_model_and_transforms(model, pretrained=weights, load_weights=True)
    except Exception as error:
        raise VidgenError(
            f"These weights cannot be read as a {model}: {str(error).splitlines()[0][:200]}",
            got=weights,
            allowed="a checkpoint file of that model, or one of open_clip.list_pretrained()",
            move="Set the model and its weights (for a head: the backbone) to ones that belong together",
        ) from error
    return Clip(opened.eval(), transform, open_clip.get_tokenizer(model))
