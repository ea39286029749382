"""What reaches over all workers of a run with its gradient: rows of all of them, and batch norm over all of them.

A worker alone, without torch's process group, is all of them. Each worker's loss is a mean over its own samples, and
what gradients sum to over workers is that of the sum of their losses.
"""

from contextvars import ContextVar, Token
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

__all__ = ["BatchNorm", "Recomputing", "gathered", "own_rows"]

_RECOMPUTES: ContextVar[bool] = ContextVar("recomputes", default=False)


class Recomputing:
    """While a forward pass is repeated for its backward pass: running statistics have met its batch already.

    One that is kept with a graph is entered as often as gradients are taken of it.
    """

    def __init__(self) -> None:
        self._tokens: list[Token[bool]] = []

    def __enter__(self) -> None:
        self._tokens.append(_RECOMPUTES.set(True))

    def __exit__(self, *error: object) -> None:
        _RECOMPUTES.reset(self._tokens.pop())


def own_rows(rows: int) -> slice:
    """Where this worker's rows are among those of all, if each has so many."""
    rank = distributed.get_rank() if _together() else 0
    return slice(rank * rows, (rank + 1) * rows)


def gathered(x: Tensor) -> Tensor:
    """Rows [B, ...] of all workers in the order of their ranks, [workers * B, ...]."""
    return _Gather.apply(x) if _together() else x


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm [B, C, ...] over the samples of all workers. Ioffe and Szegedy 2015 (arXiv:1502.03167).

    Names of weights are PyTorch's. A batch with a value that is not finite leaves the running statistics as they are.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of axes."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalized by the batch in training, by the running statistics otherwise."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        before = self.running_mean, self.running_var
        mean, variance = before[0].clone(), before[1].clone()
        if _together():
            out = self._over_all(x, mean, variance)
        else:
            rate = 0.0 if self.momentum is None else self.momentum
            out = F.batch_norm(x, mean, variance, self.weight, self.bias, True, rate, self.eps)
        if _RECOMPUTES.get():
            return out
        finite = torch.isfinite(mean).all() & torch.isfinite(variance).all()
        with torch.no_grad():
            for kept, fresh in zip(before, (mean, variance), strict=True):
                kept.copy_(torch.where(finite, fresh, kept))
        return out

    def _over_all(self, x: Tensor, running_mean: Tensor, running_variance: Tensor) -> Tensor:
        """By sums over all workers; the running statistics are moved."""
        axes, shape = [axis for axis in range(x.ndim) if axis != 1], [1, -1] + [1] * (x.ndim - 2)
        values = x.float()
        count = x.numel() / x.shape[1] * distributed.get_world_size()
        # From the squared distances to the mean: a difference of large sums would lose small variances.
        mean = _Sum.apply(values.sum(axes)) / count
        centered = values - mean.view(shape)
        variance = _Sum.apply(centered.square().sum(axes)) / count
        rate = 0.0 if self.momentum is None else self.momentum
        with torch.no_grad():
            running_mean.lerp_(mean, rate)
            running_variance.lerp_(variance * count / max(1.0, count - 1), rate)
        normal = centered * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(x.dtype)


class _Gather(torch.autograd.Function):
    """Concatenates; the gradient of a row is what all workers' losses say of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Rows of all workers."""
        parts = [torch.empty_like(x) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, x.contiguous())
        ctx.rows = len(x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The rows of this worker of the summed gradient."""
        summed = gradients[0].contiguous().clone()
        distributed.all_reduce(summed)
        return summed[own_rows(ctx.rows)]


class _Sum(torch.autograd.Function):
    """Sums over workers; so is the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """The sum."""
        del ctx
        summed = x.clone()
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The summed gradient."""
        del ctx
        summed = gradients[0].contiguous().clone()
        distributed.all_reduce(summed)
        return summed


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
