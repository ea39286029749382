"""Floating-point operations by formula: what a network's products, convolutions and attention cost.

Two operations are one multiply-add, as PyTorch's `FlopCounterMode` counts; norms, activations and sums count nothing.
"""

import math
from dataclasses import dataclass

from torch import nn

__all__ = ["Flops", "convolution", "product"]


@dataclass(frozen=True)
class Flops:
    """Operations of one forward pass, apart by what their backward pass costs.

    Attributes:
        products: Products and convolutions that pass a gradient on to their input: the backward pass is two more.
        ends: Those whose input is data: the backward pass is one more, for the weight alone.
        attention: Scores and weighted values: the backward pass computes the scores anew, which makes five products
            out of two (Dao et al. 2022, "FlashAttention", arXiv:2205.14135, algorithm 4).

    """

    products: float = 0.0
    ends: float = 0.0
    attention: float = 0.0

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.products + other.products, self.ends + other.ends, self.attention + other.attention)

    def __mul__(self, count: float) -> "Flops":
        return Flops(self.products * count, self.ends * count, self.attention * count)

    @property
    def forward(self) -> float:
        """Of the forward pass alone."""
        return self.products + self.ends + self.attention

    @property
    def step(self) -> float:
        """Of forward and backward pass together."""
        return 3.0 * self.products + 2.0 * self.ends + 3.5 * self.attention

    @property
    def on_data(self) -> "Flops":
        """The same where the input of all products is data."""
        return Flops(0.0, self.products + self.ends, self.attention)


def product(layer: nn.Module, rows: float) -> Flops:
    """A linear layer on so many rows."""
    assert isinstance(layer, nn.Linear)
    return Flops(2.0 * rows * layer.in_features * layer.out_features)


def convolution(layer: nn.Module, places: float) -> Flops:
    """A convolution over space, or over time and space, that puts out so many places."""
    assert isinstance(layer, nn.Conv2d | nn.Conv3d)
    return Flops(2.0 * places * layer.in_channels * layer.out_channels * math.prod(layer.kernel_size))
