"""Contrastive captioners of open_clip. Yu et al. 2022, "CoCa" (arXiv:2205.01917).

Captions are decoded greedily. open_clip's own beam search needs a class that transformers has dropped in version 5.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from data_prep.settings import CaptionerSettings
from vidgen_core import digests
from vidgen_core.errors import VidgenError, did_you_mean

__all__ = ["Coca", "digest", "open_captioner"]

_START, _END = 49406, 49407
_BATCH = 8


def digest(settings: CaptionerSettings) -> str:
    """What fixes a caption besides the picture: the model, the bytes of its weights (or their tag), the length."""
    file = Path(settings.weights)
    weights = digests.of_file(file) if file.is_file() else settings.weights
    return digests.of_value(["coca", settings.model, weights, settings.tokens])


def open_captioner(settings: CaptionerSettings) -> "Coca":
    """Open a checkpoint file, or a tag that open_clip knows and downloads.

    Raises:
        VidgenError: open_clip is not installed, has no such model, or cannot read these weights.

    """
    try:
        import open_clip
    except ImportError as error:
        move = "Install it with: pip install 'vidgen[captions]'"
        raise VidgenError("The captioner coca needs open_clip", move=move) from error
    known = [name for name in open_clip.list_models() if name.startswith("coca")]
    if settings.model not in known:
        raise VidgenError(
            f"open_clip has no CoCa model {settings.model!r}",
            allowed=", ".join(known),
            move=did_you_mean(settings.model, known),
        )
    try:
        model, _, transform = open_clip.create_model_and_transforms(
            settings.model, pretrained=settings.weights, load_weights=True
        )
    except Exception as error:
        raise VidgenError(
            f"These weights cannot be read as a {settings.model}: {str(error).splitlines()[0][:200]}",
            got=settings.weights,
            allowed="a checkpoint file of that model, or one of open_clip.list_pretrained()",
            move="Set data.captioner.weights and data.captioner.model to ones that belong together",
        ) from error
    return Coca(model.eval(), transform, open_clip.get_tokenizer(settings.model), settings.tokens)


class Coca:
    """Pictures to captions, by the most likely next word.

    Args:
        model: open_clip's model.
        transform: PIL image to the model's input.
        tokenizer: Token ids to text.
        tokens: Longest caption, with its first and last token.

    """

    def __init__(self, model: Any, transform: Any, tokenizer: Any, tokens: int) -> None:
        self._model, self._transform, self._tokenizer, self._tokens = model, transform, tokenizer, tokens

    @torch.inference_mode()
    def caption(self, pictures: Sequence[NDArray[np.uint8]]) -> list[str]:
        """One caption for each picture [H, W, 3], uint8."""
        captions: list[str] = []
        for start in range(0, len(pictures), _BATCH):
            some = [self._transform(Image.fromarray(picture)) for picture in pictures[start : start + _BATCH]]
            captions += [self._text(row) for row in self._decoded(torch.stack(some))]
        return captions

    def _decoded(self, images: Tensor) -> Tensor:
        """Token ids [B, up to tokens], beginning with the start token."""
        latent, embedded = self._model._encode_image(images)
        words = torch.full((len(images), 1), _START)
        while words.shape[1] < self._tokens and not (words == _END).any(1).all():
            out = self._model(images, words, image_latent=latent, image_embs=embedded, output_labels=False)
            words = torch.cat([words, out["logits"][:, -1].argmax(-1, keepdim=True)], dim=1)
        return words

    def _text(self, row: Tensor) -> str:
        ids = row.tolist()[1:]
        kept = ids[: ids.index(_END)] if _END in ids else ids
        return " ".join(self._tokenizer.decode([word for word in kept if word < _START]).split())
