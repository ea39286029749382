"""I3D's Kinetics-400 logits, the space of FVD.

Unterthiner et al. 2018, "Towards Accurate Generative Models of Video" (arXiv:1812.01717), by the protocol of StyleGAN-V
(Skorokhodov et al. 2021, arXiv:2112.14683): 16 frames, bilinear to 224 x 224 without antialiasing or crop, [-1, 1], the
400 logits averaged over time; 2,048 real clips of the training split against 2,048 made ones.
"""

import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from vidgen_core import digests
from vidgen_core.errors import VidgenError
from vidgen_core.evaluation.extractors._contract import Clips, Extractor, FeatureProtocol, Features
from vidgen_core.networks.i3d import Config, renamed

__all__ = ["I3DLogits"]

_SIDE_PX = 224
_FRAMES = 16
_CLASSES = 400
_MOVE = "Correct evaluation.i3d.weights"


class I3DLogits(Extractor):
    """Logits [N, 400].

    Args:
        weights: The TorchScript export, or a state dict.
        reference: Split of the real clips.

    Raises:
        VidgenError: There is no such file, or it is neither.

    """

    kinds: ClassVar[Mapping[str, str]] = {"frechet": "fvd", "mmd": "kvd"}
    least_frames = 9  # what is left of fewer is too short for the last pooling
    most_frames = _FRAMES
    classifies = True

    def __init__(self, weights: str, reference: Literal["train", "held_out"] = "train") -> None:
        file = Path(weights)
        if not file.is_file():
            raise VidgenError("There is no such file of I3D weights", got=weights, move=_MOVE)
        self.reference = reference
        exported = _is_export(file)
        # Papers compare by the export, whose weights are not those that the authors of I3D released.
        self._name = "i3d-k400-logits" if exported else "i3d-k400-logits-statedict"
        self._logits = _exported(file) if exported else _ours(file)
        self._digest = digests.of_file(file, 16)

    @property
    def protocol(self) -> FeatureProtocol:
        """See `Extractor`."""
        return FeatureProtocol(
            encoder=self._name, weights=self._digest, resize="bilinear224-nocrop", values="[-1, 1]",
            frames=f"first {_FRAMES}, logits averaged over time", dimensions=_CLASSES, whitened=False,
        )  # fmt: skip

    def features(self, clips: Clips, *, batch: int = 4) -> Features:
        """See `Extractor`; of longer clips the first 16 frames."""
        rows = []
        with torch.inference_mode():
            for start in range(0, len(clips), batch):
                part = torch.from_numpy(clips[start : start + batch, :_FRAMES])
                rows.append(self._logits(part.permute(0, 4, 1, 2, 3).float()).double().numpy())
        return np.concatenate(rows)


def resized(video: Tensor) -> Tensor:
    """Video [B, 3, T, H, W] in 0 to 255 as the network reads it: 224 x 224, in [-1, 1]."""
    flat = video.transpose(1, 2).flatten(0, 1)
    small = F.interpolate(flat, size=(_SIDE_PX, _SIDE_PX), mode="bilinear", align_corners=False)
    return (small / 127.5 - 1).unflatten(0, (len(video), -1)).transpose(1, 2)


def _is_export(file: Path) -> bool:
    """Whether it holds code besides tensors, as TorchScript does."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any("/code/" in name for name in archive.namelist())


def _exported(file: Path) -> Callable[[Tensor], Tensor]:
    """The public export resizes and scales by itself when asked to."""
    try:
        with warnings.catch_warnings():
            # The export is what papers compare by, in a format that torch would rather leave behind.
            warnings.simplefilter("ignore")
            network = torch.jit.load(str(file), map_location="cpu").eval()
    except RuntimeError as error:
        raise _unreadable(file, error) from error

    def logits(video: Tensor) -> Tensor:
        try:
            return network(video, rescale=True, resize=True, return_features=True)
        except RuntimeError as error:
            raise _unreadable(file, error) from error

    return logits


def _ours(file: Path) -> Callable[[Tensor], Tensor]:
    with torch.device("meta"):  # its weights come from the file
        network = Config(classes=_CLASSES).build()
    try:
        state: dict[str, Any] = (
            load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
        )
        network.load_state_dict(renamed(state), assign=True)
    except Exception as error:
        raise _unreadable(file, error) from error
    network.float().eval().requires_grad_(False)
    return lambda video: network(resized(video))


def _unreadable(file: Path, error: Exception) -> VidgenError:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return VidgenError(
        f"This file is no I3D of Kinetics-400: {said}",
        got=str(file),
        allowed="i3d_torchscript.pt, or a state dict under the names of pytorch-i3d or of its TensorFlow conversion",
        move=_MOVE,
    )
