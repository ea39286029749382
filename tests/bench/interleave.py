"""Fair measuring on noisy machines: every way in turn, again and again, and ratios of neighbors in time."""

import json
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

__all__ = ["FOLDER", "cpu_seconds", "interleave", "ratio", "report", "summary", "wall_seconds"]

FOLDER = Path(".bench")
T = TypeVar("T")


def interleave(ways: Mapping[str, Callable[[], T]], *, rounds: int) -> dict[str, list[T]]:
    """What each way measures in each round; the first round warms up and is dropped, and the order alternates."""
    measured: dict[str, list[T]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name in list(ways) if number % 2 else reversed(list(ways)):
            value = ways[name]()
            if number:
                measured[name].append(value)
    return measured


def summary(values: list[float]) -> dict[str, float]:
    """Median, quartiles and count."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(middle), "low": float(low), "high": float(high), "rounds": len(values)}


def ratio(measured: Mapping[str, list[float]], name: str, *, over: str) -> dict[str, float]:
    """One way over another, round by round."""
    return summary([one / other for one, other in zip(measured[name], measured[over], strict=True)])


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU seconds, of this process and of the processes it waited for."""
    before = _spent_s()
    work()
    return _spent_s() - before


def _spent_s() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def report(name: str, results: Mapping[str, Any], *, add: bool = False) -> None:
    """Write .bench/NAME.json with where and when, and print it; `add` keeps the other keys that are there."""
    where = {
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / f"{name}.json"
    before = json.loads(file.read_text()) if add and file.exists() else {}
    text = json.dumps({**before, **results, "device": _processor(), "where": where}, indent=1)
    file.write_text(text + "\n")
    print(text)  # noqa: T201 - a program of its own


def wall_seconds(work: Callable[[], Any]) -> float:
    """Seconds on the clock."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
