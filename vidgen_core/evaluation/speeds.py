"""How fast a training was, from its logged rows."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from vidgen_core.evaluation.figures import measured, number, percent

__all__ = ["speed"]


def speed(name: str, history: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """One line of the page's table: medians over the rows, and what a step was predicted to take.

    None where the rows say nothing of speed.
    """
    rows = [row for row in history if "speed/tokens_per_s" in row]
    if not rows:
        return None
    compared = next((row for row in rows if "speed/predicted_step_s" in row), {})
    peaks = [row.get("system/gpu_peak_memory_gb", row.get("system/peak_memory_gb")) for row in rows]
    return {
        "training": name,
        "samples": number(_middle(rows, "speed/samples_per_s")),
        "tokens": number(_middle(rows, "speed/tokens_per_s")),
        "mfu": percent(_middle(rows, "speed/mfu")),
        "waiting": percent(_middle(rows, "speed/wait_share")),
        "memory": number(max((peak for peak in peaks if measured(peak)), default=None)),
        "measured": _step(compared, "speed/measured_step_s"),
        "predicted": _step(compared, "speed/predicted_step_s"),
    }


def _middle(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return median(row[name] for row in rows)


def _step(row: Mapping[str, Any], name: str) -> str:
    return f"{number(1000 * row[name])} ms" if name in row else ""
