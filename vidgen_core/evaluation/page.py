"""The page: one HTML file that says what went in, what was kept, how it learned, what it reaches, and shows it."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray
from PIL import Image

from vidgen_core.clip import parse_rate
from vidgen_core.evaluation.curves import charts
from vidgen_core.evaluation.evaluate import Evaluation

__all__ = ["PageData", "render"]

_SIDE_PX = 128


@dataclass(frozen=True)
class PageData:
    """All that the page shows.

    Attributes:
        funnel: (step, count) from files to clips.
        rejects: Reason -> count.
        histories: Logged rows of each training, {"step": ..., name: value}.
        made, real: Clips uint8 [N, T, H, W, 3], with `prompts` and `captions`.
        facts: Digests and durations.

    """

    title: str
    promoted: bool
    reasons: Sequence[str]
    funnel: Sequence[tuple[str, int]]
    rejects: Mapping[str, int]
    histories: Mapping[str, Sequence[Mapping[str, Any]]]
    evaluation: Evaluation
    made: NDArray[np.uint8]
    prompts: Sequence[str]
    real: NDArray[np.uint8]
    captions: Sequence[str]
    frame_rate: str
    facts: Mapping[str, str]


def render(data: PageData) -> str:
    """The page as text; it refers to nothing outside itself."""
    environment = Environment(
        loader=PackageLoader("vidgen_core.evaluation", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        data=data,
        charts=[chart for name, rows in data.histories.items() for chart in charts(name, rows)],
        made=list(zip(map(lambda clip: _animation(clip, data.frame_rate), data.made), data.prompts, strict=False)),
        real=list(zip(map(lambda clip: _animation(clip, data.frame_rate), data.real), data.captions, strict=False)),
        truth=_truth(data.evaluation),
        most=max((count for _, count in data.funnel), default=1) or 1,
    )


def _animation(clip: NDArray[np.uint8], rate: str) -> str:
    """A clip [T, H, W, 3] as the data URI of an animated WebP, small clips enlarged without smoothing."""
    factor = max(1, _SIDE_PX // clip.shape[1])
    frames = [Image.fromarray(frame.repeat(factor, 0).repeat(factor, 1)) for frame in clip]
    stream = io.BytesIO()
    duration_ms = round(1000 / parse_rate(rate))
    frames[0].save(
        stream, "WEBP", save_all=True, append_images=frames[1:], duration=duration_ms, loop=0, quality=85, method=3
    )
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def _truth(evaluation: Evaluation) -> list[dict[str, Any]]:
    if evaluation.truth is None or evaluation.truth_real is None:
        return []
    names = {"one_shape": "one shape", "color": "color", "shape": "shape", "direction": "direction",
             "straight": "straight line"}  # fmt: skip
    return [
        {"name": label, "made": getattr(evaluation.truth, name), "real": getattr(evaluation.truth_real, name)}
        for name, label in names.items()
    ]
