"""The rest of a video of which some pixels are given.

Given pixels become known latents: a latent is known where all pixels that it stands for are given, and only there. What
is not given is filled in from what is before the codec sees it, so that nothing of it can leak through the codec's
convolutions. What comes out has the given pixels as they were; how near the codec alone came to them is told as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vidgen_core.applications.generator import Generator
from vidgen_core.chance import Chance
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Codec, to_clips, to_unit
from vidgen_core.known import KnownMask
from vidgen_core.sampling import Sampling
from vidgen_core.shapes import Latents, Video

__all__ = ["Completed", "Drawing", "Given", "complete", "filled", "known_latents"]

_PEAK = 255.0


@dataclass(frozen=True)
class Given:
    """What there is of a video.

    Attributes:
        video: uint8 [N, T, H, W, 3]; what is not given may be anything.
        mask: True where pixels are given, bool [N, T, H, W].

    """

    video: NDArray[np.uint8]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Drawing:
    """How what is missing is drawn.

    Attributes:
        seed: Of the noise.
        sampling: How; the model's own way if None.
        rounds: How often each solver step is taken, see `Ask`.
        scope: Narrows the draws: windows of one long video have draws of their own.

    """

    seed: int = 0
    sampling: Sampling | None = None
    rounds: int = 1
    scope: tuple[str | int, ...] = ()

    def within(self, *scope: str | int) -> "Drawing":
        """The same with other draws."""
        return Drawing(self.seed, self.sampling, self.rounds, (*self.scope, *scope))


@dataclass(frozen=True)
class Completed:
    """A whole video.

    Attributes:
        video: uint8 [N, T, H, W, 3]; given pixels are those that were given.
        known_share: Share of the latents that were known.
        codec_psnr_db: How near the decoded video came to the given pixels of known latents, before they were put back;
            None where no latent was known.

    """

    video: NDArray[np.uint8]
    known_share: float
    codec_psnr_db: float | None


def complete(generator: Generator, given: Given, prompts: Sequence[str], drawing: Drawing | None = None) -> Completed:
    """Videos of prompts around what is given, one a prompt.

    Raises:
        VidgenError: The model cannot be given anything, or what is given has another shape than its videos.

    """
    drawing = drawing or Drawing()
    generator.check_accepts_known()
    _check_shapes(generator, given, len(prompts))
    chance = Chance(drawing.seed).within("generate", *drawing.scope)
    with torch.inference_mode():
        video, mask = to_unit(torch.from_numpy(given.video)), torch.from_numpy(given.mask)[:, None]
        latents, known = known_latents(generator.codec, video, mask)
        made = generator.latents(
            prompts, torch.arange(len(prompts)), chance, sampling=drawing.sampling, known=(latents, known),
            rounds=drawing.rounds,
        )  # fmt: skip
        decoded = to_clips(generator.codec.decode(made)).numpy()
    stood_for = _pixels_of(generator.codec, known).numpy()[:, 0]
    whole = np.where(given.mask[..., None], given.video, decoded)
    return Completed(whole, float(known.float().mean()), _psnr_db(decoded[stood_for], given.video[stood_for]))


def known_latents(codec: Codec, video: Video, mask: Tensor) -> tuple[Latents, KnownMask]:
    """Latents [B, C, T', H', W'] of a video, and where they stand for given pixels alone [B, 1, T', H', W'].

    Args:
        codec: Codes the first frame by itself and then groups of `time_stride` frames.
        video: [B, 3, T, H, W] in [-1, 1].
        mask: True where pixels are given, [B, 1, T, H, W].

    """
    time, space = codec.time_stride, codec.space_stride
    # The first frame stands for a whole group: it has one of its own.
    groups = torch.cat([mask[:, :, :1].expand(-1, -1, time - 1, -1, -1), mask], dim=2).float()
    known = F.avg_pool3d(groups, (time, space, space)) == 1.0
    latents = codec.encode(filled(video, mask))
    return latents, known


def filled(video: Video, mask: Tensor) -> Video:
    """A video whose missing pixels follow from the given ones: along a line in time, else from what is around them.

    Args:
        video: [B, 3, T, H, W]; what is not given does not matter.
        mask: True where pixels are given, [B, 1, T, H, W].

    """
    seen = torch.where(mask, video, 0.0)
    (before, age), (after, wait) = _held(seen, mask), _held(seen.flip(2), mask.flip(2))
    after, wait = after.flip(2), wait.flip(2)
    share = torch.where(wait.isinf(), 0.0, torch.where(age.isinf(), 1.0, age / (age + wait).clamp_min(1.0)))
    between = before + share * (after - before)
    anywhere = mask.any(2, keepdim=True).expand_as(mask)
    around = _from_around(torch.where(anywhere, between, 0.0), anywhere.float())
    return torch.where(mask, video, torch.where(anywhere, between, around))


def _held(video: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The last given value of each place, and how many frames ago it was; infinitely many where there was none."""
    value, age = torch.zeros_like(video[:, :, 0]), torch.full_like(mask[:, :, 0], torch.inf, dtype=video.dtype)
    values, ages = [], []
    for frame in range(video.shape[2]):
        here = mask[:, :, frame]
        value, age = torch.where(here, video[:, :, frame], value), torch.where(here, 0.0, age + 1)
        values.append(value)
        ages.append(age)
    return torch.stack(values, 2), torch.stack(ages, 2)


def _from_around(video: Tensor, weight: Tensor) -> Tensor:
    """Means of what is near, from ever coarser pictures until there is something; gray where nothing is."""
    height, width = video.shape[3:]
    if bool((weight > 0).all()) or max(height, width) == 1:
        return video
    size = (video.shape[2], -(-height // 2), -(-width // 2))
    mass = F.adaptive_avg_pool3d(weight, size)
    means = F.adaptive_avg_pool3d(video * weight, size) / mass.clamp_min(1e-6)
    coarse = _from_around(means, (mass > 0).float())
    return torch.where(weight > 0, video, F.interpolate(coarse, (video.shape[2], height, width), mode="trilinear"))


def _pixels_of(codec: Codec, known: Tensor) -> Tensor:
    """Pixels that known latents stand for, [B, 1, T, H, W]."""
    for axis, stride in ((2, codec.time_stride), (3, codec.space_stride), (4, codec.space_stride)):
        known = known.repeat_interleave(stride, dim=axis)
    return known[:, :, codec.time_stride - 1 :]


def _psnr_db(made: NDArray[np.uint8], given: NDArray[np.uint8]) -> float | None:
    if not made.size:
        return None
    error = float(np.mean((made.astype(np.float64) - given) ** 2))
    return 10 * float(np.log10(_PEAK**2 / max(error, 1e-2)))


def _check_shapes(generator: Generator, given: Given, count: int) -> None:
    wanted = (count, *generator.pixels)
    if given.video.shape != (*wanted, 3) or given.mask.shape != wanted:
        raise VidgenError(
            "What is given has another shape than this model's videos",
            got=f"video {given.video.shape}, mask {given.mask.shape}",
            allowed=f"(videos, frames, height, width) {wanted}",
        )
