"""Pictures worked on in tiles, exactly: each tile sees as much around it as its results depend on."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

__all__ = ["in_tiles"]


def in_tiles(
    apply: Callable[[Tensor], Tensor], x: Tensor, *, cell_in: int, cell_out: int, tile: int, halo: int
) -> Tensor:
    """What `apply` makes of x [..., H, W], made in tiles of at most `tile` cells a side.

    A cell is `cell_in` pixels of the input and `cell_out` of the result a side. Each tile is given `halo` cells more on
    each side where there are any, and their results are cut off: there is nothing to blend where `halo` covers what a
    result depends on.
    """
    height, width = x.shape[-2] // cell_in, x.shape[-1] // cell_in
    if height <= tile and width <= tile:
        return apply(x)
    rows = []
    for top, bottom, above, below in _spans(height, tile, halo):
        row = []
        for left, right, before, after in _spans(width, tile, halo):
            made = apply(x[..., above * cell_in : below * cell_in, before * cell_in : after * cell_in])
            inner = slice((top - above) * cell_out, (bottom - above) * cell_out)
            row.append(made[..., inner, (left - before) * cell_out : (right - before) * cell_out])
        rows.append(torch.cat(row, dim=-1))
    return torch.cat(rows, dim=-2)


def _spans(cells: int, tile: int, halo: int) -> Iterator[tuple[int, int, int, int]]:
    """Start and stop of each tile along a side, without and with its halo."""
    for start in range(0, cells, tile):
        stop = min(start + tile, cells)
        yield start, stop, max(0, start - halo), min(cells, stop + halo)
