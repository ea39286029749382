"""Classifier-free guidance as a wrapper: a velocity that holds a velocity."""

from collections.abc import Callable

import torch
from torch import Tensor

from vidgen_core.interfaces import Text

__all__ = ["guided"]

Denoiser = Callable[[Tensor, Tensor, Text | None], Tensor]


def guided(velocity: Denoiser, text: Text | None, *, scale: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Ho and Salimans 2022 (arXiv:2207.12598): n + scale (c - n), with the empty prompt as n.

    Both are evaluated in one batch. Scale 1 (or no text) is the conditional velocity alone, at half the cost.
    """

    def plain(x: Tensor, t: Tensor) -> Tensor:
        return velocity(x, t, text)

    if text is None or scale == 1.0:
        return plain
    both = Text(text.tokens.repeat(2, 1, 1), torch.cat([text.mask, text.empty().mask]))

    def combined(x: Tensor, t: Tensor) -> Tensor:
        conditional, empty = velocity(x.repeat(2, 1, 1, 1, 1), t.repeat(2), both).chunk(2)
        return empty + scale * (conditional - empty)

    return combined
