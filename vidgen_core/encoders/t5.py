"""Text encoders of T5 and its kin, in the format of transformers. Raffel et al. 2020 (arXiv:1910.10683)."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, field_validator

from vidgen_core import digests, weights
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Frozen, Text, TextEncoder

__all__ = ["Config", "T5"]

_CLASSES = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}


class Config(Frozen):
    """A T5 encoder.

    Args:
        path: Folder or hub id.
        subfolder, tokenizer_subfolder: Where in it model and tokenizer are: "text_encoder" and "tokenizer" in most
            pipelines.
        revision: Commit, branch or tag of the hub.
        tokens: Tokens kept of a caption, the end's included.
        precision: Of the computation; embeddings are always float32.

    """

    path: str = ""
    subfolder: str = ""
    tokenizer_subfolder: str = ""
    revision: str = ""
    tokens: int = Field(128, gt=1)
    precision: Literal["fp32", "bf16"] = "fp32"

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        # Stages may stand in another folder; what is no folder here is a hub id.
        return str(Path(path).absolute()) if path and Path(path).is_dir() else path

    def build(self) -> "T5":
        """The encoder.

        Raises:
            VidgenError: transformers is not installed, or the path or hub has no such encoder.

        """
        return T5(self)


class T5(TextEncoder):
    """Captions to [B, tokens, width]: the encoder's last hidden states, zero where the mask is False."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._model, self._tokenizer = _opened(config)
        # A tokenizer remembers how it was last called, so before it is.
        self._spelling = digests.of_value(self._tokenizer.backend_tokenizer.to_str())
        self.dim, self.tokens = self._model.config.d_model, config.tokens

    @cached_property
    def digest(self) -> str:
        """Digest of weights, tokenizer, length and precision."""
        made_of = {
            "encoder": "t5",
            "version": 1,
            "weights": weights.digest_of(self._model.state_dict()),
            "tokenizer": self._spelling,
            "tokens": self.tokens,
            "precision": self.config.precision,
        }
        return digests.of_value(made_of)

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Text:
        """Encode captions; what is longer than `tokens` is cut off."""
        told = self._tokenizer(
            list(captions), max_length=self.tokens, padding="max_length", truncation=True, return_tensors="pt"
        )
        mask = told["attention_mask"].bool()
        hidden = self._model(input_ids=told["input_ids"], attention_mask=told["attention_mask"]).last_hidden_state
        return Text(hidden.float() * mask[..., None], mask)


def _opened(config: Config) -> tuple[Any, Any]:
    try:
        import transformers
    except ImportError as error:
        move = "Install it with: pip install 'vidgen[text]'"
        raise VidgenError("T5 needs transformers", move=move) from error
    at = {"revision": config.revision or "main"}
    kind = "nothing"
    try:
        told = transformers.AutoConfig.from_pretrained(config.path, subfolder=config.subfolder, **at)
        kind = told.model_type
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        made = getattr(transformers, _CLASSES[kind])
        model = made.from_pretrained(config.path, subfolder=config.subfolder, dtype=dtype, **at)
        tokenizer = transformers.AutoTokenizer.from_pretrained(config.path, subfolder=config.tokenizer_subfolder, **at)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise VidgenError(
            "There is no T5 encoder to open",
            got=f"{config.path!r} with {kind}: {(str(error).splitlines() or [''])[0][:200]}",
            allowed=f"a folder or hub id with config.json, weights and tokenizer of {', '.join(_CLASSES)}",
            move="Check text.path, text.subfolder and text.tokenizer_subfolder",
        ) from error
    return model.eval().requires_grad_(False), tokenizer
