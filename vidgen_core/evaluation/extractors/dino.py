"""Frames through DINO's ViT-B/16, each alone. Caron et al. 2021 (arXiv:2104.14294); VBench's subject consistency."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from vidgen_core import digests
from vidgen_core.errors import VidgenError
from vidgen_core.evaluation.extractors._contract import FeatureProtocol, Features, Frames, StillExtractor

__all__ = ["DinoImages"]

_SIDE_PX = 224
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


class DinoImages(StillExtractor):
    """Embeddings of length one [M, 768]; a clip's is the mean of its frames'.

    Args:
        weights: The backbone's state dict.

    Raises:
        VidgenError: timm, which comes with open_clip, is not installed, or the file is not that state dict.

    """

    consistency = "subject_consistency"

    def __init__(self, weights: str) -> None:
        self._network, self._digest = _opened(Path(weights)), digests.of_file(Path(weights), 16)

    @property
    def protocol(self) -> FeatureProtocol:
        """See `Extractor`."""
        return FeatureProtocol(
            encoder="dino-vitb16", weights=self._digest, resize="bilinear224-nocrop", values="ImageNet",
            frames="all, each alone, embeddings of length one averaged", dimensions=768, whitened=False,
        )  # fmt: skip

    def stills(self, frames: Frames, *, batch: int = 32) -> Features:
        """See `Extractor`."""
        mean, deviation = (torch.tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
        rows = []
        with torch.inference_mode():
            for start in range(0, len(frames), batch):
                pictures = torch.from_numpy(frames[start : start + batch]).permute(0, 3, 1, 2).float() / 255
                size = (_SIDE_PX, _SIDE_PX)
                small = F.interpolate(pictures, size=size, mode="bilinear", align_corners=False)
                rows.append(F.normalize(self._network((small - mean) / deviation).double(), dim=-1).numpy())
        return np.concatenate(rows)


def _opened(file: Path) -> Any:
    try:
        import timm
    except ImportError as error:
        raise VidgenError("DINO needs timm", move="Install it with: pip install open_clip_torch") from error
    with torch.device("meta"):  # its weights come from the file
        network = timm.create_model("vit_base_patch16_224", num_classes=0)
    try:
        network.load_state_dict(torch.load(file, "cpu", weights_only=True), assign=True)
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise VidgenError(
            f"This file is no DINO ViT-B/16: {said}",
            got=str(file),
            allowed="the state dict of the backbone, dino_vitbase16_pretrain.pth",
            move="Correct evaluation.dino.weights",
        ) from error
    return network.float().eval().requires_grad_(False)
