"""Autoencoders in the format of diffusers, by path or hub id; image autoencoders code each frame by itself.

Once opened, a codec knows its architecture and holds its weights and normalization itself, so that what is saved of it
needs neither the path nor the hub again.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import field_validator
from torch import Tensor

from vidgen_core.codecs._strides import strided_shape
from vidgen_core.errors import VidgenError, did_you_mean
from vidgen_core.interfaces import Codec, Frozen
from vidgen_core.shapes import Latents, Video

__all__ = ["Config", "DiffusersCodec"]

# Frames that an image autoencoder works on at once.
_FRAMES = 8
# A clip that every stride up to 8 in time and 32 in space divides.
_PROBE = (1, 3, 25, 64, 64)


class _Kind(NamedTuple):
    """What has to be known of a class.

    Attributes:
        pictures: Whether it codes pictures and not videos.
        latents: Its latents in what `encode` gives.
        causal: Whether a latent depends on no later frame.
        together: Whether it decodes the latents of all frames together, though it encodes pictures.
        knows_mean: Whether the mean and deviation of a channel are among its weights and not in its configuration.

    """

    pictures: bool
    latents: Callable[[Any], Tensor]
    causal: bool
    together: bool = False
    knows_mean: bool = False


def _mode(encoded: Any) -> Tensor:
    return encoded.latent_dist.mode()


_KINDS = {
    "AutoencoderKL": _Kind(pictures=True, latents=_mode, causal=True),
    "AutoencoderTiny": _Kind(pictures=True, latents=lambda encoded: encoded.latents, causal=True),
    "AutoencoderDC": _Kind(pictures=True, latents=lambda encoded: encoded.latent, causal=True),
    "AutoencoderKLTemporalDecoder": _Kind(pictures=True, latents=_mode, causal=False, together=True),
    "AutoencoderKLWan": _Kind(pictures=False, latents=_mode, causal=True),
    # Norms of these pool over frames.
    "AutoencoderKLCogVideoX": _Kind(pictures=False, latents=_mode, causal=False),
    "AutoencoderKLHunyuanVideo": _Kind(pictures=False, latents=_mode, causal=False),
    "AutoencoderKLLTXVideo": _Kind(pictures=False, latents=_mode, causal=False, knows_mean=True),
}


class Config(Frozen):
    """An autoencoder of diffusers.

    Args:
        path: Folder or hub id.
        subfolder: Where in it the autoencoder is: "vae" in most pipelines.
        revision: Commit, branch or tag of the hub.
        tiling: Whether large pictures are worked on in blended tiles, as diffusers does it.
        architecture: The content of `config.json`; read from the path. Codecs that were saved have it and no path.

    """

    path: str = ""
    subfolder: str = ""
    revision: str = ""
    tiling: bool = False
    architecture: dict[str, Any] = {}

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        # Stages may stand in another folder; what is no folder here is a hub id.
        return str(Path(path).absolute()) if Path(path).is_dir() and path else path

    def build(self) -> "DiffusersCodec":
        """The autoencoder, with its weights where there is a path.

        Raises:
            VidgenError: diffusers is not installed, the path or hub has no such autoencoder, or its class is unknown.

        """
        if self.architecture:
            return DiffusersCodec(self, _class(self.architecture).from_config(self.architecture))
        where = {"subfolder": self.subfolder or None, "revision": self.revision or None}
        try:
            told = _library().AutoencoderKL.load_config(self.path, **where)
            model = _class(told).from_pretrained(self.path, torch_dtype=torch.float32, **where)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise VidgenError(
                "There is no autoencoder of diffusers to open",
                got=f"{self.path!r}: {(str(error).splitlines() or [''])[0][:200]}",
                allowed="a folder with config.json and weights, or a hub id",
                move="Check codec.path, and codec.subfolder (for a whole pipeline: vae)",
            ) from error
        # As JSON would give it back, so that the saved configuration equals this one.
        architecture = {name: value for name, value in dict(model.config).items() if name != "_name_or_path"}
        architecture = json.loads(json.dumps({**architecture, "_class_name": type(model).__name__}))
        return DiffusersCodec(Config(tiling=self.tiling, architecture=architecture), model)


class DiffusersCodec(Codec):
    """Video [B, 3, T, H, W] in [-1, 1] to normalized latents [B, C, T', H', W'] and back."""

    shift: Tensor
    scale: Tensor

    def __init__(self, config: Config, model: Any) -> None:
        super().__init__()
        self.config, self.model = config, model
        told = config.architecture
        self._kind = _KINDS[told["_class_name"]]
        self.causal = self._kind.causal
        self.channels, self.time_stride, self.space_stride = _strides(told, self._kind)
        # z = (raw - shift) * scale: a mean and deviation a channel where they are published, or one for all.
        shift, deviation = told.get("latents_mean") or told.get("shift_factor") or 0.0, told.get("latents_std") or 1.0
        if self._kind.knows_mean:
            shift, deviation = model.latents_mean.tolist(), model.latents_std.tolist()
        factor = told.get("scaling_factor") or 1.0
        factor = 1 / factor if told.get("invert_scale_latents") else factor
        self.register_buffer("shift", self._a_channel(shift))
        self.register_buffer("scale", factor / self._a_channel(deviation))
        if config.tiling:
            model.enable_tiling()

    def encode(self, video: Video) -> Latents:
        """The mean of the posterior, normalized by the published statistics."""
        kind = self._kind
        if kind.pictures:
            pictures = video.transpose(1, 2).flatten(0, 1).split(_FRAMES)
            raw = _videos(torch.cat([kind.latents(self.model.encode(some)) for some in pictures]), video.shape[2])
        else:
            raw = kind.latents(self.model.encode(video))
        return (raw - self.shift) * self.scale

    def decode(self, latents: Latents) -> Video:
        """Video clamped to [-1, 1]."""
        raw, frames = latents / self.scale + self.shift, latents.shape[2]
        if not self._kind.pictures:
            return self.model.decode(raw).sample.clamp(-1, 1)
        pictures = raw.transpose(1, 2).flatten(0, 1)
        if self._kind.together:
            return _videos(self.model.decode(pictures, num_frames=frames).sample, frames).clamp(-1, 1)
        made = torch.cat([self.model.decode(some).sample for some in pictures.split(_FRAMES)])
        return _videos(made, frames).clamp(-1, 1)

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(channels, frames, height, width) of a clip's latents."""
        return strided_shape(self, frames, height, width)

    def _a_channel(self, value: float | list[float]) -> Tensor:
        return torch.tensor(value, dtype=torch.float32).expand(self.channels).reshape(-1, 1, 1, 1).clone()


def _videos(pictures: Tensor, frames: int) -> Tensor:
    """[B T, C, H, W] to [B, C, T, H, W]."""
    return pictures.unflatten(0, (-1, frames)).transpose(1, 2)


def _strides(architecture: dict[str, Any], kind: _Kind) -> tuple[int, int, int]:
    """(channels, stride in time, stride in space), from shapes alone: nothing is computed on the meta device."""
    with torch.device("meta"), torch.no_grad():
        model = _class(architecture).from_config(architecture)
        probe = torch.empty(_PROBE)
        shape = kind.latents(model.encode(probe[:, :, 0] if kind.pictures else probe)).shape
    time = 1 if kind.pictures else (_PROBE[2] - 1) // (shape[2] - 1)
    return shape[1], time, _PROBE[-1] // shape[-1]


def _library() -> Any:
    try:
        import diffusers
    except ImportError as error:
        move = "Install it with: pip install 'vidgen[codecs]'"
        raise VidgenError("This codec needs diffusers", move=move) from error
    return diffusers


def _class(architecture: dict[str, Any]) -> Any:
    name = architecture.get("_class_name", "")
    if name not in _KINDS:
        raise VidgenError(
            "This is no autoencoder that vidgen knows of diffusers",
            got=name,
            allowed=", ".join(_KINDS),
            move=did_you_mean(name, _KINDS),
        )
    return getattr(_library(), name)
