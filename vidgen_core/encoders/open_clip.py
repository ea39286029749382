"""Text towers of open_clip's CLIP models: the tokens of the last layer, normalized as the tower's own output is."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from pydantic import field_validator

from vidgen_core import digests, weights
from vidgen_core.encoders._open_clip import load_open_clip
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Frozen, Text, TextEncoder

__all__ = ["Config", "OpenClipText"]

_TEXT = ("token_embedding.", "transformer.", "ln_final.", "positional_embedding", "text.")


class Config(Frozen):
    """A text tower.

    Args:
        model: A name of open_clip, "hf-hub:OWNER/NAME" or "local-dir:FOLDER".
        weights: A checkpoint file or a tag of open_clip; "" for a model by address.

    """

    model: str = "ViT-L-14"
    weights: str = ""

    @field_validator("weights")
    @classmethod
    def _absolute(cls, path: str) -> str:
        # Stages may stand in another folder; what is no file here is a tag.
        return str(Path(path).absolute()) if path and Path(path).is_file() else path

    def build(self) -> "OpenClipText":
        """The encoder.

        Raises:
            VidgenError: open_clip is not installed, or the model cannot be opened.

        """
        return OpenClipText(self)


class OpenClipText(TextEncoder):
    """Captions to [B, context length, width]; what is longer than the context is cut off.

    The mask ends with the token that CLIP reads the whole caption from.
    """

    def __init__(self, config: Config) -> None:
        opened = load_open_clip(config.model, config.weights)
        if opened.end is None:
            raise VidgenError(
                f"The text tower of {config.model} has a tokenizer of its own",
                allowed="models with CLIP's tokenizer",
                move="Choose a CLIP model, or T5: text=t5",
            )
        self.config, self._opened = config, opened
        told = self.encode([""]).tokens
        self.tokens, self.dim = told.shape[1], told.shape[2]

    @cached_property
    def digest(self) -> str:
        """Digest of the name and of the tower's weights."""
        state = {name: value for name, value in self._opened.model.state_dict().items() if name.startswith(_TEXT)}
        named = {"encoder": "open_clip", "version": 1, "model": self.config.model, "weights": weights.digest_of(state)}
        return digests.of_value(named)

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Text:
        """Encode captions."""
        ids = self._opened.tokenizer(list(captions))
        made = self._opened.model.forward_intermediates(
            text=ids, text_indices=1, intermediates_only=True, normalize_intermediates=True
        )
        last = (ids == self._opened.end).int().argmax(dim=1)
        mask = torch.arange(ids.shape[1]) <= last[:, None]
        return Text(made["text_intermediates"][-1].float() * mask[..., None], mask)
