"""Views of clips: crops and colors that change a clip, the same way in all of its frames.

Each takes what was drawn for it, numbers in [0, 1), so that a view is a function of a sample and its draws.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["blurred", "cropped", "recolored", "resized", "solarized", "times"]

Draws = Float[Tensor, "batch draws"]
Video = Float[Tensor, "batch channels frames height width"]

_GRAY = (0.299, 0.587, 0.114)


def resized(video: Video, side_px: int) -> Video:
    """Frames of `side_px` squared, bilinear with anti-aliasing; as they are where they have that size."""
    if video.shape[-2:] == (side_px, side_px):
        return video
    frames = video.transpose(1, 2).flatten(0, 1)
    scaled = F.interpolate(frames, size=(side_px, side_px), mode="bilinear", antialias=True)
    return scaled.unflatten(0, (len(video), -1)).transpose(1, 2)


def times(frames: int, wanted: int) -> list[int]:
    """The places of `wanted` frames spread over a clip from its first to its last; some twice in a short one."""
    return [round(place * (frames - 1) / max(1, wanted - 1)) for place in range(wanted)]


def cropped(video: Video, draws: Draws, *, least_area: float, widest: float = 1.0, flips: float = 0.0) -> Video:
    """A random box of each clip, scaled to the clip's size; of some clips mirrored.

    Args:
        video: The clips.
        draws: [B, 5]: area, aspect, two of the place, mirroring.
        least_area: Share of the picture that is kept at least.
        widest: Largest width over height of a box, relative to the picture; its inverse is the smallest.
        flips: Share of clips that are mirrored.

    """
    area = least_area + (1 - least_area) * draws[:, 0]
    ratio = torch.exp((2 * draws[:, 1] - 1) * math.log(widest))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    center_x, center_y = (1 - width) * (2 * draws[:, 2] - 1), (1 - height) * (2 * draws[:, 3] - 1)
    width = torch.where(draws[:, 4] < flips, -width, width)
    rows, columns = video.shape[-2:]
    x = (2 * torch.arange(columns, device=video.device) + 1) / columns - 1
    y = (2 * torch.arange(rows, device=video.device) + 1) / rows - 1
    grid_x = (center_x[:, None] + width[:, None] * x)[:, None].expand(-1, rows, -1)
    grid_y = (center_y[:, None] + height[:, None] * y)[:, :, None].expand(-1, -1, columns)
    # One grid a clip: its frames are channels of one picture.
    grid = torch.stack([grid_x, grid_y], dim=-1)
    picked = F.grid_sample(video.flatten(1, 2), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return picked.unflatten(1, video.shape[1:3])


def recolored(video: Video, draws: Draws, *, strength: float, hue: float = 0.0, gray: float = 0.0) -> Video:
    """Brightness, contrast, saturation and hue of each clip changed, as of one tall picture of all its frames.

    Args:
        video: Clips in [-1, 1], three channels.
        draws: [B, 5]: one for each of those, and for gray.
        strength: Factors lie in 1 - strength to 1 + strength.
        hue: Largest turn of the hue, of a full one.
        gray: Share of clips that lose their colors.

    """
    brightness, contrast, saturation = (
        (1 + strength * (2 * draws[:, place] - 1)).clamp(min=0).view(-1, 1, 1, 1, 1) for place in range(3)
    )
    x = (video + 1) / 2 * brightness
    x = x.clamp(0, 1)
    mean = _gray(x).mean((1, 2, 3, 4), keepdim=True)
    x = (mean + contrast * (x - mean)).clamp(0, 1)
    saturation = torch.where(draws[:, 4].view(-1, 1, 1, 1, 1) < gray, 0.0, saturation)
    luma = _gray(x)
    x = luma + saturation * _turned(x - luma, 2 * math.pi * hue * (2 * draws[:, 3] - 1))
    return x.clamp(0, 1) * 2 - 1


def blurred(video: Video, draws: Draws, *, share: float) -> Video:
    """A Gaussian blur of each clip's frames, of deviation 0.1 to 2 px within a tenth of the picture's side.

    Args:
        video: The clips.
        draws: [B, 2]: whether it is blurred, and how much.
        share: Share of clips that are.

    """
    reach = max(1, video.shape[-1] // 20)
    sigma = (0.1 + 1.9 * draws[:, 1])[:, None]
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=video.device) / sigma) ** 2)
    at_rest = (torch.arange(-reach, reach + 1, device=video.device) == 0).float()
    taps = torch.where(draws[:, :1] < share, taps / taps.sum(1, keepdim=True), at_rest)
    for axis in (-1, -2):
        sides = (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach)
        padded = F.pad(video.flatten(1, 2), sides, mode="replicate").unflatten(1, video.shape[1:3])
        size = video.shape[axis]
        video = sum(
            taps[:, place].view(-1, 1, 1, 1, 1) * padded.narrow(axis, place, size) for place in range(2 * reach + 1)
        )
    return video


def solarized(video: Video, draws: Draws, *, share: float) -> Video:
    """Bright values of some clips inverted: above the middle; draws are [B, 1]."""
    chosen = (draws[:, 0] < share).view(-1, 1, 1, 1, 1)
    return torch.where(chosen & (video > 0), -video, video)


def _gray(x: Tensor) -> Tensor:
    """Luma [B, 1, T, H, W]."""
    return (x * x.new_tensor(_GRAY).view(1, 3, 1, 1, 1)).sum(1, keepdim=True)


def _turned(color: Tensor, angle: Tensor) -> Tensor:
    """Colors without luma, turned about the gray axis (Rodrigues' formula)."""
    cosine, sine = angle.cos().view(-1, 1, 1, 1, 1), angle.sin().view(-1, 1, 1, 1, 1)
    red, green, blue = color.unbind(1)
    across = torch.stack([blue - green, red - blue, green - red], dim=1) / math.sqrt(3)
    along = color.mean(1, keepdim=True)
    return color * cosine + across * sine + along * (1 - cosine)
