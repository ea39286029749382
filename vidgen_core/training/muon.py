"""Muon on weights that may be split among workers. Jordan et al. 2024, "Muon: an optimizer for hidden layers".

The momentum B of a matrix's gradient G is orthogonalized: B <- m B + G, W <- W - rate sqrt(max(1, rows / columns))
NS(G + m B), where NS are five steps of a Newton-Schulz iteration in bfloat16. The momentum is kept split as the weights
are; only the iteration needs a matrix whole.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

__all__ = ["Muon", "orthogonal"]

_MOMENTUM = 0.95
_STEPS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315
_SMALLEST_NORM = 1e-7

# A worker's rows of a matrix -> the whole matrix, and a whole matrix -> the worker's rows.
Gather = Callable[[Tensor], Tensor]


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and without weight decay.

    Args:
        matrices: (this worker's rows [r, c], how to get all rows, how to get this worker's rows back) of each matrix.
        lr: Rate.

    """

    def __init__(self, matrices: Iterable[tuple[nn.Parameter, Gather, Gather]], lr: float) -> None:
        matrices = list(matrices)
        self._whole = {rows: (gather, own) for rows, gather, own in matrices}
        super().__init__([rows for rows, _, _ in matrices], {"lr": lr})
        for rows in self._whole:
            self.state[rows]["momentum_buffer"] = torch.zeros_like(rows)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix."""
        for group in self.param_groups:
            for rows in group["params"]:
                gather, own = self._whole[rows]
                momentum = self.state[rows]["momentum_buffer"]
                # As interpolations, which only scale what is orthogonalized.
                momentum.lerp_(rows.grad, 1 - _MOMENTUM)
                whole = orthogonal(gather(rows.grad.lerp(momentum, _MOMENTUM)))
                rate = group["lr"] * math.sqrt(max(1.0, whole.shape[0] / whole.shape[1]))
                rows.add_(own(whole), alpha=-rate)


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix [r, c] with all its singular values near 1, bfloat16."""
    x = matrix.bfloat16()
    if matrix.shape[0] > matrix.shape[1]:
        x = x.T
    x = x / x.norm().clamp(min=_SMALLEST_NORM)
    for _ in range(_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.T if matrix.shape[0] > matrix.shape[1] else x
