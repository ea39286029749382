"""Tiny image autoencoders, each frame by itself: fast latents of the spaces that large models use.

The layout of the autoencoders of O. B. Bohan (madebyollin/taesd), with the wider places of FLUX.2's space: 8 x 8
compression, about 1.3 million parameters a side. Weights are opened from a folder that holds one file
`*encoder.pth` and one `*decoder.pth`, or `.safetensors`.
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import field_validator
from safetensors.torch import load_file
from torch import Tensor, nn

from vidgen_core.codecs._strides import strided_shape
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Codec, Frozen
from vidgen_core.shapes import Latents, Video

__all__ = ["Config", "TinyAutoencoder"]

_WIDTH = 64
# Frames that are worked on at once.
_FRAMES = 8


class Config(Frozen):
    """A tiny autoencoder.

    Args:
        path: Folder of its weights. Codecs that were saved have none: their weights are beside them.
        channels: Latent channels; read from the weights where there is a path.
        pooled: Whether blocks at the lowest resolution read a wider, normalized view of all of the frame.

    """

    path: str = ""
    channels: int = 32
    pooled: bool = True

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        # Stages may stand in another folder.
        return str(Path(path).absolute()) if path else ""

    def build(self) -> "TinyAutoencoder":
        """The autoencoder, with its weights where there is a path.

        Raises:
            VidgenError: The folder does not hold such weights.

        """
        if not self.path:
            return TinyAutoencoder(self)
        encoder, decoder = (_read(Path(self.path), side) for side in ("encoder", "decoder"))
        try:
            pooled = any(".pool." in name for name in encoder)
            codec = TinyAutoencoder(Config(channels=encoder["14.weight"].shape[0], pooled=pooled))
            codec.encoder.load_state_dict(encoder)
            codec.decoder.load_state_dict(decoder)
        except (KeyError, RuntimeError) as error:
            raise VidgenError(
                f"The weights in {self.path} are not those of a tiny image autoencoder",
                got=str(error).splitlines()[0],
                move="Set codec.path to a folder of madebyollin/taesd's encoder and decoder",
            ) from error
        return codec


class TinyAutoencoder(Codec):
    """Video [B, 3, T, H, W] in [-1, 1] to latents [B, C, T, H / 8, W / 8] and back, each frame by itself.

    Latents are as the weights give them, which were trained to about unit variance.
    """

    time_stride = 1
    space_stride = 8
    causal = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.channels = config, config.channels
        low = [_Block(pooled=config.pooled) for _ in range(3)]
        self.encoder = nn.Sequential(
            _conv(3, _WIDTH), _Block(), *_down(), *_down(), _half(), *low, _conv(_WIDTH, config.channels)
        )
        low = [_Block(pooled=config.pooled) for _ in range(3)]
        self.decoder = nn.Sequential(
            _Bound(), _conv(config.channels, _WIDTH), nn.ReLU(), *low, *_up(), *_blocks(), *_up(), *_blocks(), *_up(),
            _Block(), _conv(_WIDTH, 3),
        )  # fmt: skip

    def encode(self, video: Video) -> Latents:
        """The latents of each frame."""
        return _by_frames(self.encoder, video.add(1).div(2))

    def decode(self, latents: Latents) -> Video:
        """The frame of each latent, clamped to [-1, 1]."""
        return _by_frames(self.decoder, latents).mul(2).sub(1).clamp(-1, 1)

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(channels, frames, height / 8, width / 8)."""
        return strided_shape(self, frames, height, width)


class _Block(nn.Module):
    """Three convolutions beside the identity; `pooled`, the input is first added to by a wider, normalized view."""

    def __init__(self, *, pooled: bool = False) -> None:
        super().__init__()
        convs = (_conv(_WIDTH, _WIDTH), nn.ReLU(), _conv(_WIDTH, _WIDTH), nn.ReLU(), _conv(_WIDTH, _WIDTH))
        self.conv = nn.Sequential(*convs)
        wide = 4 * _WIDTH
        self.pool = (
            nn.Sequential(
                nn.Conv2d(_WIDTH, wide, 1, bias=False), nn.GroupNorm(4, wide), nn.ReLU(inplace=True),
                nn.Conv2d(wide, _WIDTH, 1, bias=False),
            )
            if pooled
            else None
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """[N, 64, H, W], shape kept."""
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class _Bound(nn.Module):
    """Latents bounded softly to within 3."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], shape kept."""
        return torch.tanh(x / 3) * 3


def _conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def _half() -> nn.Conv2d:
    return nn.Conv2d(_WIDTH, _WIDTH, 3, stride=2, padding=1, bias=False)


def _blocks() -> list[nn.Module]:
    return [_Block() for _ in range(3)]


def _down() -> list[nn.Module]:
    return [_half(), *_blocks()]


def _up() -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2), nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, bias=False)]


def _by_frames(network: nn.Module, video: Tensor) -> Tensor:
    """A network of pictures over the frames [B, C, T, H, W] of videos, some frames at a time."""
    frames = video.transpose(1, 2).flatten(0, 1)
    made = torch.cat([network(some) for some in frames.split(_FRAMES)])
    return made.unflatten(0, (video.shape[0], video.shape[2])).transpose(1, 2)


def _read(folder: Path, side: str) -> dict[str, Any]:
    """The tensors of one side."""
    files = [*folder.glob(f"*{side}.safetensors"), *folder.glob(f"*{side}.pth")] if folder.is_dir() else []
    if len(files) != 1:
        raise VidgenError(
            f"There is not one tiny {side} in the folder",
            got=str(folder),
            allowed=f"one file *{side}.pth or *{side}.safetensors",
            move="Set codec.path to a folder with one encoder and one decoder",
        )
    try:
        if files[0].suffix == ".safetensors":
            return load_file(files[0])
        return torch.load(files[0], weights_only=True, map_location="cpu")
    except Exception as error:
        raise VidgenError(f"The weights in {files[0]} cannot be read", got=str(error).splitlines()[0]) from error
