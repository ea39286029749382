"""Names of metrics: what was compared with what, and the hash of everything that changes the number."""

from collections.abc import Mapping
from typing import Any

from vidgen_core import digests
from vidgen_core.evaluation.measurements import Better, Estimate, Measurement
from vidgen_core.frozen import Frozen

__all__ = ["Compared", "measurement"]


class Compared(Frozen):
    """The clips of a comparison.

    Args:
        frames: Of each clip, as many as are looked at.
        height, width: Of the clips as they are stored, before any resize.
        frame_rate: Of the clips, a fraction.
        n: Clips on each side.
        reference: Split of the real clips: "held_out", "train", or "all" where nothing was held out.

    """

    frames: int
    height: int
    width: int
    frame_rate: str
    n: int
    reference: str


def measurement(
    kind: str, space: str, found: Estimate, clips: Compared, *, protocol: Mapping[str, Any], better: Better
) -> Measurement:
    """A measurement under its full name.

    Args:
        kind: The metric.
        space: What it is measured in, as its name has it.
        found: The numbers.
        clips: What was compared.
        protocol: Whatever else changes the number; its spelling goes into the hash with kind and clips.
        better: Which way better lies.

    """
    told = digests.of_value({"kind": kind, "space": space, "clips": clips, "protocol": dict(protocol)}, 8)
    size = f"{clips.frames}f/{clips.width}x{clips.height}/n{clips.n}/ref={clips.reference}"
    return Measurement(
        name=f"{kind}@{space}/{size}/{told}", protocol=told, value=found.value, low=found.low, high=found.high,
        floor=found.floor, n=found.n, floor_n=found.floor_n, better=better,
    )  # fmt: skip
