"""Frames through the image tower of a CLIP, each alone. Radford et al. 2021 (arXiv:2103.00020)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vidgen_core import digests
from vidgen_core.encoders._open_clip import load_open_clip
from vidgen_core.evaluation.extractors._contract import FeatureProtocol, Features, Frames, StillExtractor

__all__ = ["OpenClipImages"]


class OpenClipImages(StillExtractor):
    """Embeddings of length one; a clip's is the mean of its frames'.

    Args:
        model: A name or address of open_clip.
        weights: A checkpoint file or a tag.

    Raises:
        VidgenError: open_clip is not installed, or the model cannot be opened.

    """

    consistency = "background_consistency"

    def __init__(self, model: str, weights: str) -> None:
        self._clip = load_open_clip(model, weights)
        named = digests.of_file(Path(weights)) if Path(weights).is_file() else weights
        self.name, self._digest = model.replace("/", "-"), digests.of_value([model, named])

    @property
    def protocol(self) -> FeatureProtocol:
        """See `Extractor`."""
        return FeatureProtocol(
            encoder=f"clip-{self.name}", weights=self._digest, resize="the model's own transform",
            values="the model's own", frames="all, each alone, embeddings of length one averaged",
            dimensions=self._clip.model.visual.output_dim, whitened=False,
        )  # fmt: skip

    def stills(self, frames: Frames, *, batch: int = 64) -> Features:
        """See `Extractor`."""
        rows = []
        with torch.inference_mode():
            for start in range(0, len(frames), batch):
                pictures = [self._clip.transform(Image.fromarray(frame)) for frame in frames[start : start + batch]]
                rows.append(_units(self._clip.model.encode_image(torch.stack(pictures))))
        return np.concatenate(rows)

    def texts(self, captions: Sequence[str]) -> Features:
        """Embeddings of captions, of length one [N, D]."""
        with torch.inference_mode():
            return _units(self._clip.model.encode_text(self._clip.tokenizer(list(captions))))


def _units(embeddings: torch.Tensor) -> Features:
    return torch.nn.functional.normalize(embeddings.double(), dim=-1).numpy()
