"""Known frames: which of them a learner is shown clean, and how a sampler keeps to them.

A network whose noise time may differ from frame to frame reads a known frame as one at time 0; that carries
image-to-video, extension and interpolation by one rule. Zheng et al. 2024, "Open-Sora" (arXiv:2412.20404), section 4;
Chen et al. 2024, "Diffusion Forcing" (arXiv:2407.01392).
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool
from torch import Tensor

from vidgen_core.chance import Chance
from vidgen_core.interfaces import Text
from vidgen_core.paths import Path, expand_times
from vidgen_core.shapes import Index, Latents

__all__ = ["KnownMask", "hold", "shown_frames"]

KnownMask = Bool[Tensor, "batch 1 frames height width"]
_Network = Callable[[Tensor, Tensor, Text | None], Tensor]


def shown_frames(chance: Chance, index: Index, frames: int, *, share: float) -> Bool[Tensor, "batch frames"]:
    """Frames that a learner is shown clean: in a share of the samples one of four ways, in the others none.

    The ways, equally often: the first frames, the last frames, some at both ends, any. At least one frame is shown and
    at least one is not; clips of one frame are shown nothing.
    """
    rows = [_shown(chance.generator("known", number), frames, share) for number in index.tolist()]
    return torch.stack(rows).to(index.device)


def _shown(draws: torch.Generator, frames: int, share: float) -> Tensor:
    shown = torch.zeros(frames, dtype=torch.bool)
    chosen, way = torch.rand(2, generator=draws).tolist()
    if frames < 2 or chosen >= share:
        return shown
    count = int(torch.randint(1, frames, (), generator=draws))
    if way < 0.25:
        shown[:count] = True
    elif way < 0.5:
        shown[-count:] = True
    elif way < 0.75:
        ahead = int(torch.randint(0, count + 1, (), generator=draws))
        shown[:ahead] = True
        shown[frames - (count - ahead) :] = True
    else:
        shown[torch.randperm(frames, generator=draws)[:count]] = True
    return shown


def hold(
    network: _Network, known: Latents, mask: KnownMask, *, path: Path, noise: Latents, frame_times: bool
) -> _Network:
    """A network that sees given elements wherever a sampler has gone.

    Frames that are given whole stand clean at time 0, if the network was trained for that; all other given elements
    are replaced by what they would be at the sampler's time, with `noise` (Lugmayr et al. 2022, arXiv:2201.09865,
    eq. 8).

    Args:
        network: Output for x, times [B] or [B, T] and text. Batches that are a multiple of B hold B several times over.
        known: Values [B, C, T, H, W].
        mask: True where they are given.
        path: Path on which the sampler walks.
        noise: Standard normal draws [B, C, T, H, W].
        frame_times: Whether the network was trained with clean frames at time 0.

    """
    whole = mask.flatten(3).all(3)[:, 0] & frame_times  # [B, T]

    def held(x: Tensor, t: Tensor, text: Text | None) -> Tensor:
        times = len(x) // len(known)
        given, values, eps, clean = (part.repeat(times, *[1] * (part.ndim - 1)) for part in (mask, known, noise, whole))
        frame_t = (t[:, None] if t.ndim == 1 else t).expand(clean.shape)
        frame_t = torch.where(clean, 0.0, frame_t)
        x = torch.where(given, path.mix(values, eps, expand_times(frame_t, x)), x)
        return network(x, frame_t if frame_times else t, text)

    return held
