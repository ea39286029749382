"""Contrastive captioners of open_clip. Yu et al. 2022, "CoCa" (arXiv:2205.01917).

It captions one picture, the frame in the middle of a clip. Captions are decoded greedily: open_clip's own beam search
needs a class that transformers has dropped in version 5. Its two towers compare a caption with a picture.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from data_prep.captioners._contract import Asked, CaptionerSettings, Pictures, Said
from vidgen_core import digests
from vidgen_core.encoders._open_clip import load_open_clip, open_clip_models
from vidgen_core.errors import VidgenError, did_you_mean

__all__ = ["FRAMES", "PROMPT", "REMOTE", "Coca", "check", "digest", "open_captioner"]

FRAMES = 1
REMOTE = False
PROMPT = ""
_VERSION = 2
_MODEL, _TOKENS = "coca_ViT-L-14", 30
_START, _END = 49406, 49407
_BATCH = 8
_TIE = 1e-6  # of cosines; the same words in two rows of a batch differ by as much
_HUB = "hf-hub:"
_MOVE = "Set data.captioner.weights and data.captioner.model to ones that belong together"


def check(settings: CaptionerSettings) -> None:
    """Whether the settings can be CoCa's.

    Raises:
        VidgenError: It is told of a server, is to see several pictures, or its file is not there.

    """
    if settings.server.url:
        raise VidgenError(
            "The captioner coca asks no server", got=settings.server.url, move="Set data.captioner.name=endpoint"
        )
    if settings.frames not in (None, FRAMES):
        raise VidgenError("CoCa captions one picture", got=f"data.captioner.frames={settings.frames}", allowed=FRAMES)
    place = Path(settings.weights)
    if not settings.weights.startswith(_HUB) and (len(place.parts) > 1 or place.suffix) and not place.exists():
        raise VidgenError("The captioner's weights are not there", got=settings.weights, move=_MOVE)


def digest(settings: CaptionerSettings) -> str:
    """Of the model, the bytes of its weights (or their name, where they are downloaded) and the length."""
    place = Path(settings.weights)
    files = sorted(file for file in place.iterdir() if file.is_file()) if place.is_dir() else [place]
    weights = [digests.of_file(file) for file in files] if place.exists() else settings.weights
    return digests.of_value(["coca", _VERSION, settings.model or _MODEL, weights, settings.tokens or _TOKENS])


def open_captioner(settings: CaptionerSettings) -> "Coca":
    """Open a checkpoint file, a folder or a hub's name with `open_clip_config.json`, or a tag that open_clip knows.

    Raises:
        VidgenError: open_clip is not installed, has no such model, or cannot read these weights.

    """
    name = _model_name(settings)
    # A name with a schema brings its weights.
    opened = load_open_clip(name, "" if ":" in name else settings.weights)
    if type(opened.model).__name__ != "CoCa":
        raise VidgenError("These weights are no CoCa", got=settings.weights, move=_MOVE)
    return Coca(opened.model, opened.transform, opened.tokenizer, name, settings.tokens or _TOKENS)


def _model_name(settings: CaptionerSettings) -> str:
    if settings.weights.startswith(_HUB):
        return settings.weights
    if Path(settings.weights).is_dir():
        return f"local-dir:{settings.weights}"
    name, known = settings.model or _MODEL, open_clip_models("coca")
    if name not in known:
        raise VidgenError(
            f"open_clip has no CoCa model {name!r}", allowed=", ".join(known), move=did_you_mean(name, known)
        )
    return name


class Coca:
    """Pictures to captions, by the most likely next word.

    Args:
        model: open_clip's model.
        transform: PIL image to the model's input.
        tokenizer: Text to token ids and back.
        name: The model's, for the record.
        tokens: Longest caption, with its first and last token.

    """

    def __init__(self, model: Any, transform: Any, tokenizer: Any, name: str, tokens: int) -> None:
        self._model, self._transform, self._tokenizer, self._name = model, transform, tokenizer, name
        # The text tower adds a token of its own behind the text.
        self._tokens = min(tokens, model.context_length)

    def caption(self, asked: Sequence[Asked]) -> list[Said]:
        """What it says of the middle picture of each clip, in words that follow the prompt."""
        said: list[Said | None] = [None] * len(asked)
        for prompt in dict.fromkeys(one.prompt for one in asked):
            places = [place for place, one in enumerate(asked) if one.prompt == prompt]
            for start in range(0, len(places), _BATCH):
                some = places[start : start + _BATCH]
                with torch.inference_mode():
                    words = self._decoded(self._images([asked[place].pictures for place in some]), prompt)
                for place, row in zip(some, words.tolist(), strict=True):
                    said[place] = self._said(row)
        return [one for one in said if one is not None]

    def pick(self, clip: Pictures, captions: tuple[str, str]) -> int | None:
        """The caption whose embedding is nearer to the picture's."""
        with torch.inference_mode():
            picture = self._model.encode_image(self._images([clip]), normalize=True)
            texts = self._model.encode_text(
                self._tokenizer(list(captions))[:, : self._model.context_length], normalize=True
            )
            first, second = (texts @ picture[0]).tolist()
        return None if abs(first - second) < _TIE else int(second > first)

    def close(self) -> None:
        """Nothing is ever under way between two calls."""

    def _images(self, clips: Sequence[Pictures]) -> Tensor:
        opened = [Image.open(io.BytesIO(clip[len(clip) // 2])).convert("RGB") for clip in clips]
        return torch.stack([self._transform(picture) for picture in opened])

    def _decoded(self, images: Tensor, prompt: str) -> Tensor:
        """Token ids [B, up to tokens], beginning with the start token and the prompt."""
        begin = [_START, *(self._tokenizer.encode(prompt) if prompt else [])]
        latent, embedded = self._model._encode_image(images)
        words = torch.tensor([begin] * len(images))
        while words.shape[1] < self._tokens and not (words == _END).any(1).all():
            out = self._model(images, words, image_latent=latent, image_embs=embedded, output_labels=False)
            words = torch.cat([words, out["logits"][:, -1].argmax(-1, keepdim=True)], dim=1)
        return words

    def _said(self, ids: list[int]) -> Said:
        whole = _END in ids
        kept = ids[1 : ids.index(_END)] if whole else ids[1:]
        text = " ".join(self._tokenizer.decode([word for word in kept if word < _START]).split())
        if not text:
            return Said("", "empty", "There was no word before the end of the caption", self._name)
        message = "" if whole else f"No end within {self._tokens} tokens"
        return Said(text, "ok" if whole else "truncated", message, self._name)
