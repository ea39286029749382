"""Clips to features through a fixed network of random weights: no download, the same values everywhere.

Random convolutions see look and motion without having learned either. A distance in their space compares two models on
one data set, and is never to be called by the name of a metric that needs a trained network.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vidgen_core import digests
from vidgen_core.evaluation.extractors._contract import (
    Clips,
    Extractor,
    FeatureProtocol,
    Features,
    Frames,
    StillExtractor,
)

__all__ = ["RandomConv", "RandomMotion"]

# Whatever could change a value; a change here makes numbers incomparable, which the hash then shows.
_MADE_OF = {
    "network": "three 3-D convolutions, leaky ReLU 0.2, mean and deviation over space and time",
    "channels": [3, 16, 32, 32],
    "strides": [[1, 2, 2], [2, 2, 2], [1, 2, 2]],
    "seed": 20_240_601,
    "version": 1,
}
_KINDS: Mapping[str, str] = {"frechet": "rfd", "mmd": "rmmd"}


class RandomConv(StillExtractor):
    """Means and deviations of three random convolutions over all frames at once, 64 dimensions."""

    kinds = _KINDS

    def __init__(self) -> None:
        self._network = _Network()

    @property
    def protocol(self) -> FeatureProtocol:
        """See `Extractor`."""
        return _protocol("random-conv64", frames="all")

    def features(self, clips: Clips) -> Features:
        """See `Extractor`."""
        return self._network.features(clips, batch=64)

    def stills(self, frames: Frames) -> Features:
        """See `StillExtractor`; a frame is a clip of one frame."""
        return self._network.features(frames[:, None], batch=256)


class RandomMotion(Extractor):
    """The same of the differences of neighboring frames: how clips change, and hardly what they look like."""

    kinds = _KINDS
    least_frames = 2

    def __init__(self) -> None:
        self._network = _Network()

    @property
    def protocol(self) -> FeatureProtocol:
        """See `Extractor`."""
        return _protocol("random-conv64-motion", frames="differences of neighbors")

    def features(self, clips: Clips) -> Features:
        """See `Extractor`."""
        return self._network.features(clips, batch=64, change=True)


def _protocol(encoder: str, *, frames: str) -> FeatureProtocol:
    return FeatureProtocol(
        encoder=encoder, weights=digests.of_value(_MADE_OF), resize="bilinear32-antialiased", values="[-1, 1]",
        frames=frames, dimensions=64, whitened=True,
    )  # fmt: skip


class _Network:
    """The convolutions."""

    def __init__(self) -> None:
        self._layers = _layers()

    @torch.inference_mode()
    def features(self, clips: Clips, *, batch: int, change: bool = False) -> Features:
        """Features of clips, or of the change from each frame to the next."""
        rows = []
        for start in range(0, len(clips), batch):
            video = torch.from_numpy(clips[start : start + batch]).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
            flat = video.transpose(1, 2).flatten(0, 1)
            frames = F.interpolate(flat, size=(32, 32), mode="bilinear", antialias=True)
            x = frames.unflatten(0, (len(video), -1)).transpose(1, 2)
            x = x.diff(dim=2) if change else x
            for layer in self._layers:
                x = F.leaky_relu(layer(x), 0.2)
            rows.append(torch.cat([x.mean((2, 3, 4)), x.std((2, 3, 4))], dim=1).double().numpy())
        return np.concatenate(rows)


def _layers() -> list[nn.Conv3d]:
    generator = torch.Generator().manual_seed(int(str(_MADE_OF["seed"])))
    channels, strides = [3, 16, 32, 32], [(1, 2, 2), (2, 2, 2), (1, 2, 2)]
    layers = []
    for before, after, stride in zip(channels[:-1], channels[1:], strides, strict=True):
        layer = nn.Conv3d(before, after, 3, stride, padding=1)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * (2 / (27 * before)) ** 0.5)
            layer.bias.copy_(0.1 * torch.randn(after, generator=generator))  # type: ignore[union-attr]
        layers.append(layer)
    return layers
