"""Space-time patches: an exactly invertible rearrangement of a video into tokens."""

import math

from jaxtyping import Float
from torch import Tensor

from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Frozen, Space

__all__ = ["Patched", "patchify", "unpatchify"]


class Patched(Frozen):
    """Sizes of a network that works on patches.

    Args:
        patch_frames, patch_px: Extent of one patch in the frames and pixels that the network sees.

    """

    patch_frames: int = 1
    patch_px: int = 2

    @property
    def patch(self) -> tuple[int, int, int]:
        """(frames, height, width) of one patch."""
        return (self.patch_frames, self.patch_px, self.patch_px)

    def grid(self, space: Space) -> tuple[int, int, int]:
        """How many patches lie along (frames, height, width) of a sample.

        Raises:
            VidgenError: They do not fill it.

        """
        sizes = space.shape[1:]
        if any(size % extent for size, extent in zip(sizes, self.patch, strict=True)):
            raise VidgenError(
                "The network's patches do not fill a sample",
                got=f"patches of {self.patch} for (frames, height, width) {sizes}",
                allowed="patches that divide each of them",
                move="Change the network's patch_frames or patch_px, or the clips' size",
            )
        frames, height, width = (size // extent for size, extent in zip(sizes, self.patch, strict=True))
        return frames, height, width

    def places(self, shape: tuple[int, int, int, int]) -> int:
        """Patches of one sample (channels, frames, height, width)."""
        return math.prod(shape[1:]) // math.prod(self.patch)


def patchify(
    video: Float[Tensor, "batch channels frames height width"], patch: tuple[int, int, int]
) -> Float[Tensor, "batch frames_p height_p width_p values"]:
    """Cut a video into patches of (frames, height, width); each becomes a vector of its values."""
    b, c, t, h, w = video.shape
    pt, ph, pw = patch
    grid = video.reshape(b, c, t // pt, pt, h // ph, ph, w // pw, pw)
    return grid.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, t // pt, h // ph, w // pw, c * pt * ph * pw)


def unpatchify(
    tokens: Float[Tensor, "batch frames_p height_p width_p values"], patch: tuple[int, int, int]
) -> Float[Tensor, "batch channels frames height width"]:
    """The inverse of `patchify`."""
    b, t, h, w, values = tokens.shape
    pt, ph, pw = patch
    channels = values // (pt * ph * pw)
    grid = tokens.reshape(b, t, h, w, channels, pt, ph, pw)
    return grid.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(b, channels, t * pt, h * ph, w * pw)
