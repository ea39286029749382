"""Clips to features through a fixed network of random weights: no download, the same values everywhere.

Random convolutions see look and motion without having learned either. A distance in their space compares two models on
one data set, and is never to be called by the name of a metric that needs a trained network.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from vidgen_core import digests

__all__ = ["PROTOCOL", "protocol_hash", "random_features"]

# Whatever could change a value; a change here makes numbers incomparable, which the hash then shows.
PROTOCOL = {
    "network": "three 3-D convolutions, leaky ReLU 0.2, mean and deviation over space and time",
    "channels": [3, 16, 32, 32],
    "strides": [[1, 2, 2], [2, 2, 2], [1, 2, 2]],
    "seed": 20_240_601,
    "input": "bilinear 32x32, values in [-1, 1]",
    "dimensions": 64,
    "version": 1,
}


def protocol_hash() -> str:
    """Digest of the protocol."""
    return digests.of_value(PROTOCOL, 8)


def random_features(clips: NDArray[np.uint8], *, batch: int = 64) -> NDArray[np.float64]:
    """Features [N, 64] of clips uint8 [N, T, H, W, 3]."""
    layers = _layers()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(clips), batch):
            video = torch.from_numpy(clips[start : start + batch]).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
            frames = F.interpolate(video.transpose(1, 2).flatten(0, 1), size=(32, 32), mode="bilinear", antialias=True)
            x = frames.unflatten(0, (len(video), -1)).transpose(1, 2)
            for layer in layers:
                x = F.leaky_relu(layer(x), 0.2)
            rows.append(torch.cat([x.mean((2, 3, 4)), x.std((2, 3, 4))], dim=1).double().numpy())
    return np.concatenate(rows)


def _layers() -> list[nn.Conv3d]:
    generator = torch.Generator().manual_seed(int(str(PROTOCOL["seed"])))
    channels, strides = [3, 16, 32, 32], [(1, 2, 2), (2, 2, 2), (1, 2, 2)]
    layers = []
    for before, after, stride in zip(channels[:-1], channels[1:], strides, strict=True):
        layer = nn.Conv3d(before, after, 3, stride, padding=1)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * (2 / (27 * before)) ** 0.5)
            layer.bias.copy_(0.1 * torch.randn(after, generator=generator))  # type: ignore[union-attr]
        layers.append(layer)
    return layers
