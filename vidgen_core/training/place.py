"""Where a worker stands among the workers of a run, and the few things they tell each other."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

__all__ = ["PEER_WAIT_S", "Place"]

# A worker that a peer has not answered for so long gives up.
PEER_WAIT_S = 600


@dataclass(frozen=True)
class Place:
    """One worker of `world`; more than one needs torch's process group to be open.

    Args:
        rank: This worker's number, from 0.
        world: Number of workers.
        device: Where it computes.

    """

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether this worker writes what the run writes once."""
        return self.rank == 0

    @property
    def native_bfloat16(self) -> bool:
        """Whether the device multiplies bfloat16 by itself; where it does not, float32 is the faster one."""
        if torch.device(self.device).type == "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        able = torch.cpu.get_capabilities()
        return any(bool(able.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))

    def seed(self, source: torch.Generator) -> None:
        """Seed torch's own generators, which some layers draw from, with the seed of `source`.

        Not by `torch.manual_seed`: without a GPU that formats a stack trace on every call, for a GPU that may come.
        """
        torch.default_generator.manual_seed(source.initial_seed())
        if torch.device(self.device).type == "cuda":
            torch.cuda.manual_seed(source.initial_seed())

    def sum_(self, tensor: Tensor, group: distributed.ProcessGroup | None = None) -> None:
        """Replace a tensor by its sum over all workers, or those of a group.

        Exact for two workers: a sum of two has one order.
        """
        if self.world > 1:
            distributed.all_reduce(tensor, group=group)

    def gather(self, value: Any) -> list[Any]:
        """Every worker's value, in the order of their ranks."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        distributed.all_gather_object(values, value)
        return values
