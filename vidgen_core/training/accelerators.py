"""What devices can compute at most: public peaks of accelerators, and this machine's, measured.

Peaks are the makers' figures for dense products with float32 sums, without sparsity; "fp32" is without TF32, as PyTorch
computes by default.
"""

import time
from collections.abc import Mapping
from functools import lru_cache

import torch

from vidgen_core.errors import VidgenError, did_you_mean
from vidgen_core.frozen import Frozen
from vidgen_core.training.place import Place
from vidgen_core.training.settings import TrainSettings

__all__ = ["ACCELERATORS", "Accelerator", "choose", "here", "uses_bfloat16"]

# What of the peak trainings of this kind reach; stated beside every time that was computed with it.
_ASSUMED_ON_GPU = 0.40
_ASSUMED_ON_CPU = 0.60
_START_ON_CPU_S = 10e-6
_MATRIX, _ROUNDS = {"cpu": 768, "cuda": 8192}, 5


class Accelerator(Frozen):
    """A device.

    Args:
        name: What it is called.
        bf16_tflops, fp32_tflops: Most operations a second, in 10^12.
        memory_gb: Its memory, in 10^9 bytes.
        assumed_mfu: Share of the peak that a training is assumed to reach ("model FLOPs utilization", Chowdhery et al.
            2022, arXiv:2204.02311, appendix B).
        start_s: What an operation takes at least when it is started alone; beside the arithmetic where the device
            computes while the next is started, and on top of it on a processor.
        known_as: Beginning or part of the name that the device says of itself.

    """

    name: str
    bf16_tflops: float
    fp32_tflops: float
    memory_gb: float
    assumed_mfu: float = _ASSUMED_ON_GPU
    start_s: float = 5e-6
    known_as: str = ""

    def peak_flops(self, *, half: bool) -> float:
        """Operations a second in bfloat16 or in float32."""
        return 1e12 * (self.bf16_tflops if half else self.fp32_tflops)


_TABLE = (
    Accelerator(name="a100", bf16_tflops=312.0, fp32_tflops=19.5, memory_gb=80.0, known_as="A100"),
    Accelerator(name="h100", bf16_tflops=989.4, fp32_tflops=66.9, memory_gb=80.0, known_as="H100 80GB HBM3"),
    Accelerator(name="h100_pcie", bf16_tflops=756.0, fp32_tflops=51.2, memory_gb=80.0, known_as="H100 PCIe"),
    Accelerator(name="h200", bf16_tflops=989.4, fp32_tflops=66.9, memory_gb=141.0, known_as="H200"),
    Accelerator(name="b200", bf16_tflops=2250.0, fp32_tflops=75.0, memory_gb=180.0, known_as="B200"),
    Accelerator(name="l40s", bf16_tflops=362.0, fp32_tflops=91.6, memory_gb=48.0, known_as="L40S"),
    Accelerator(name="rtx4090", bf16_tflops=165.2, fp32_tflops=82.6, memory_gb=24.0, known_as="RTX 4090"),
    Accelerator(name="mi300x", bf16_tflops=1307.4, fp32_tflops=163.4, memory_gb=192.0, known_as="MI300X"),
)
ACCELERATORS: Mapping[str, Accelerator] = {one.name: one for one in _TABLE}


def choose(names: list[str], *, threads: int) -> list[Accelerator]:
    """Accelerators by their names; "cpu" is this machine's, measured with so many threads.

    Raises:
        VidgenError: There is none of that name.

    """
    known = ["cpu", *ACCELERATORS]
    for name in names:
        if name not in known:
            move = did_you_mean(name, known)
            raise VidgenError(f"There is no accelerator {name!r}", allowed=", ".join(known), move=move)
    return [_cpu(threads) if name == "cpu" else ACCELERATORS[name] for name in names]


def here(place: Place) -> Accelerator:
    """The device of a worker: from the table, or measured where its name is not in it."""
    if torch.device(place.device).type != "cuda":
        return _cpu(torch.get_num_threads())
    said = torch.cuda.get_device_name(place.device)
    found = [one for one in _TABLE if one.known_as in said]
    if found:
        return found[0]
    rates = {dtype: _measured("cuda", dtype, 0) / 1e12 for dtype in (torch.bfloat16, torch.float32)}
    memory_gb = torch.cuda.get_device_properties(place.device).total_memory / 1e9
    return Accelerator(name=said, bf16_tflops=rates[torch.bfloat16], fp32_tflops=rates[torch.float32],
                       memory_gb=memory_gb)  # fmt: skip


def uses_bfloat16(settings: TrainSettings, *, native: bool) -> bool:
    """Whether products are taken in bfloat16 on a device that does or does not compute it natively."""
    return settings.precision == "bf16" or (settings.precision == "auto" and native)


def _cpu(threads: int) -> Accelerator:
    """The processor of this machine: what products of matrices reach now is taken for its peak."""
    rates = {dtype: _measured("cpu", dtype, threads) / 1e12 for dtype in (torch.bfloat16, torch.float32)}
    return Accelerator(
        name="cpu", bf16_tflops=rates[torch.bfloat16], fp32_tflops=rates[torch.float32],
        memory_gb=_memory_bytes() / 1e9, assumed_mfu=_ASSUMED_ON_CPU, start_s=_START_ON_CPU_S,
    )  # fmt: skip


@lru_cache
def _measured(device: str, dtype: torch.dtype, threads: int) -> float:
    """Operations a second of a product of two square matrices, the best of some rounds."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        size = _MATRIX[device]
        matrix = torch.ones(size, size, device=device, dtype=dtype)
        best_s = min(_product_s(matrix) for _ in range(_ROUNDS))
    finally:
        torch.set_num_threads(before)
    return 2.0 * size**3 / best_s


def _product_s(matrix: torch.Tensor) -> float:
    began = time.perf_counter()
    # The read waits for a device that computes beside us.
    (matrix @ matrix)[0, 0].item()
    return time.perf_counter() - began


def _memory_bytes() -> int:
    """Memory of this machine."""
    with open("/proc/meminfo") as stream:  # noqa: PTH123 - not a file of ours
        return 1024 * int(stream.readline().split()[1])
