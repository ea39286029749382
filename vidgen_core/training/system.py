"""What a run takes of its machine: processor, memory, and the accelerator where there is one."""

import os
import resource
import time
from importlib.util import find_spec
from pathlib import Path

import torch

from vidgen_core.training.place import Place

__all__ = ["System"]

_STATM = Path("/proc/self/statm")


class System:
    """Figures of this process and of its device.

    Args:
        place: On what it computes.

    """

    def __init__(self, place: Place) -> None:
        self._device = torch.device(place.device)
        # PyTorch asks NVIDIA's management library for what follows, by the package of the extra `gpu`.
        self._sees_gpu = self._device.type == "cuda" and find_spec("pynvml") is not None
        self._mark = (time.monotonic(), time.process_time())

    def figures(self) -> dict[str, float]:
        """Processors kept busy since the last call; memory in 10^9 bytes, now and at most; the accelerator's."""
        then_s, used_s = self._mark
        self._mark = (time.monotonic(), time.process_time())
        figures = {
            "cpus": (self._mark[1] - used_s) / max(1e-9, self._mark[0] - then_s),
            "load_share": os.getloadavg()[0] / (os.cpu_count() or 1),
            "memory_gb": _resident_bytes() / 1e9,
            "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        }
        if self._device.type == "cuda":
            figures["gpu_memory_gb"] = torch.cuda.memory_allocated(self._device) / 1e9
            figures["gpu_peak_memory_gb"] = torch.cuda.max_memory_allocated(self._device) / 1e9
        if self._sees_gpu:
            figures["gpu_busy_share"] = torch.cuda.utilization(self._device) / 100
            figures["gpu_power_w"] = torch.cuda.power_draw(self._device) / 1000
        return figures


def _resident_bytes() -> int:
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()
