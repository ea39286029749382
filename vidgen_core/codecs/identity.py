"""Pixels as latents: no codec at all, so that a family can learn in pixel space through the same door."""

from vidgen_core.interfaces import Codec, Frozen
from vidgen_core.shapes import Latents, Video

__all__ = ["Config", "Identity"]


class Config(Frozen):
    """Nothing to choose."""

    @classmethod
    def tiny(cls) -> "Config":
        """The only size there is."""
        return cls()

    def build(self) -> "Identity":
        """The codec."""
        return Identity(self)


class Identity(Codec):
    """Video in [-1, 1] is its own latent."""

    channels = 3
    time_stride = 1
    space_stride = 1
    causal = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def encode(self, video: Video) -> Latents:
        """The video itself."""
        return video

    def decode(self, latents: Latents) -> Video:
        """The latents, clamped to [-1, 1]."""
        return latents.clamp(-1, 1)

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(3, frames, height, width)."""
        return (3, frames, height, width)
