"""Layers that begin as nothing."""

from typing import TypeVar

import torch
from torch import nn

__all__ = ["zeroed"]

L = TypeVar("L", bound=nn.Module)


@torch.no_grad()
def zeroed(layer: L) -> L:
    """The layer with all of its parameters at 0, so that what it adds to begins as it was."""
    for values in layer.parameters():
        values.zero_()
    return layer
