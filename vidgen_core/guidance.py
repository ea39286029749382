"""Classifier-free guidance and its variants as a wrapper: a network's output made of its outputs for two texts.

Ho and Salimans 2022 (arXiv:2207.12598): n + scale (c - n), where c is the output for the prompt and n the one for the
empty (or negative) prompt. Data, noise and velocity give the same samples, as they are affine in each other. Variants
that measure lengths must be given what they are defined on, `Guidance.space`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from vidgen_core.interfaces import Text
from vidgen_core.sampling import Guidance

__all__ = ["guided"]

Network = Callable[[Tensor, Tensor, Text | None], Tensor]


def guided(
    network: Network, text: Text | None, *, scale: float, negative: Text | None = None, how: Guidance | None = None
) -> Callable[[Tensor, Tensor], Tensor]:
    """A network of (x, t) that answers for `text`, away from `negative` (the empty prompt if None).

    Both are evaluated in one batch. Where scale is 1 the network answers for the text alone, at half the cost.

    Args:
        network: Output [B, C, T, H, W] for x, times [B] or [B, T] and text.
        text: Prompts; None for none, which cannot be guided.
        scale: How far to go; 1 is no guidance.
        negative: What to lead away from.
        how: Variant; plain if None.

    """
    how = how or Guidance()
    if text is None or (scale == 1.0 and how.last_scale in (None, 1.0)):
        return lambda x, t: network(x, t, text)
    both = text.beside(text.empty() if negative is None else negative)

    def combined(x: Tensor, t: Tensor) -> Tensor:
        noisiest = t.amax()
        if not how.start >= noisiest >= how.stop:
            return network(x, t, text)
        toward, away = network(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        return _combined(toward, away, _scales(scale, how, like=toward), how)

    return combined


def _combined(toward: Tensor, away: Tensor, scales: Tensor, how: Guidance) -> Tensor:
    if how.variant == "zero_star":
        # Fan et al. 2025 (arXiv:2503.18886), eq. 8: the multiple of the empty output that is nearest the other.
        away = away * _ratio(_dot(toward, away), _dot(away, away))
    difference = toward - away
    if how.variant == "projected":
        # Sadat et al. 2024 (arXiv:2410.02416), eq. 4: what only makes the output larger is left out, or weakened.
        parallel = toward * _ratio(_dot(difference, toward), _dot(toward, toward))
        difference = difference - (1 - how.parallel) * parallel
        if how.longest is not None:
            length = _dot(difference, difference).sqrt()
            difference = difference * (how.longest / length.clamp_min(how.longest))
        out = toward + (scales - 1) * difference
    else:
        out = away + scales * difference
    if how.rescale:
        # Lin et al. 2023 (arXiv:2305.08891), eq. 15 and 16.
        axes = tuple(range(1, out.ndim))
        leveled = out * (toward.std(axes, keepdim=True) / out.std(axes, keepdim=True))
        out = how.rescale * leveled + (1 - how.rescale) * out
    return out


def _scales(first: float, how: Guidance, *, like: Tensor) -> Tensor:
    """The scale of each frame [T, 1, 1]: it goes along a line from the first frame to the last."""
    last = first if how.last_scale is None else how.last_scale
    return torch.linspace(first, last, like.shape[2], device=like.device, dtype=like.dtype)[:, None, None]


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Inner product of each sample, [B, 1, ...]."""
    return (left * right).sum(tuple(range(1, left.ndim)), keepdim=True)


def _ratio(over: Tensor, under: Tensor) -> Tensor:
    return torch.where(under > 0, over / under.clamp_min(torch.finfo(under.dtype).tiny), torch.zeros_like(over))
