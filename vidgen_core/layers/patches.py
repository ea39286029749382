"""Space-time patches: an exactly invertible rearrangement of a video into tokens."""

from jaxtyping import Float
from torch import Tensor

__all__ = ["patchify", "unpatchify"]


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
