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
from vidgen_core.predictions import Denoise, Draw
from vidgen_core.shapes import Index, Latents

__all__ = ["KnownMask", "hold", "resampling", "shown_frames"]

KnownMask = Bool[Tensor, "batch 1 frames height width"]
_Network = Callable[[Tensor, Tensor, Text | None], Tensor]
_Integrate = Callable[[Denoise, Tensor, Tensor, Draw], Tensor]


def shown_frames(chance: Chance, index: Index, frames: int, *, share: float) -> Bool[Tensor, "batch frames"]:
    """Frames that a learner is shown clean: in a share of the samples one of four ways, in the others none.

    The ways, equally often: the first frames, the last frames, some at both ends, any. At least one frame is shown and
    at least one is not; clips of one frame are shown nothing.
    """
    rows = [_shown(chance.generator("known", number), frames, share) for number in index.tolist()]
    return chance.placed(rows, index)


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


def resampling(integrate: _Integrate, *, path: Path, rounds: int) -> _Integrate:
    """A sampler that takes each step so many times and goes back to its start in between, by adding noise.

    What replaces known elements knows nothing of the rest; going back and forth lets both come to terms (Lugmayr et al.
    2022, "RePaint", arXiv:2201.09865, algorithm 1). The last step is taken once. A sampler that learns from earlier
    steps forgets them.

    Args:
        integrate: Of a file of `vidgen_core/samplers`.
        path: Path on which it walks.
        rounds: How often each step is taken.

    """

    def integrate_in_rounds(denoise: Denoise, start: Tensor, times: Tensor, draw: Draw) -> Tensor:
        x, number = start, 0
        for now, then in zip(times[:-1], times[1:], strict=True):
            for turn in range(rounds if then > 0 else 1):
                if turn:
                    x = _back(path, x, then, now, draw(2 * number + 1))
                x = integrate(denoise, x, torch.stack([now, then]), lambda _, at=2 * number: draw(at))  # type: ignore[misc]
                number += 1
        return x

    return integrate_in_rounds


def _back(path: Path, x: Tensor, now: Tensor, then: Tensor, noise: Tensor) -> Tensor:
    """From a time to a noisier one by the process that makes noise of data."""
    kept = path.alpha(then) / path.alpha(now)
    added = path.sigma(then) ** 2 - (kept * path.sigma(now)) ** 2
    return (kept * x + added.clamp_min(0).sqrt() * noise).to(x)
