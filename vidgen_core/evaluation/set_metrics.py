"""All set metrics over one extractor: distances, neighbors, memorization, and classes where it knows any."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from vidgen_core.evaluation.distances import frechet, mmd
from vidgen_core.evaluation.extractors._contract import Clips, Extractor, Features
from vidgen_core.evaluation.inception import inception_score
from vidgen_core.evaluation.measurements import Better, Measurement, estimate
from vidgen_core.evaluation.neighbors import coverage, density, diversity, memorization, precision, recall
from vidgen_core.evaluation.protocols import Compared, measurement

__all__ = ["LEAST", "Material", "Seen", "SetMetric", "look", "metrics_of", "set_metrics"]

LEAST = 8  # clips on each side
_LEAST_FOR_NEIGHBORS = 12  # half of them must be more than the five neighbors
_VERSION = 2
_ANY = (-math.inf, math.inf)
_STYLEGAN_V = 2048  # clips on each side

Metric = Callable[[Features, Features], float]


@dataclass(frozen=True)
class Material:
    """The clips of an evaluation, uint8 [N, T, H, W, 3] of one shape.

    Attributes:
        held_out: Real clips that the model did not learn from; where none were kept apart, some that it learned from.
        captions: Theirs.
        trained: Clips that it learned from; empty where none were kept apart.
        frame_rate: Of all, a fraction.
        kept_apart: Whether `held_out` is what it says.

    """

    held_out: Clips
    captions: list[str]
    trained: Clips
    frame_rate: str
    kept_apart: bool = True


@dataclass(frozen=True)
class Seen:
    """What an extractor makes of the clips, [N, D] each."""

    held_out: Features
    trained: Features
    made: Features

    def whitened(self) -> "Seen":
        """Each dimension less its mean and over its deviation, both of the held-out clips."""
        mean, scale = self.held_out.mean(0), self.held_out.std(0).clip(1e-8)
        return Seen(*((some - mean) / scale for some in (self.held_out, self.trained, self.made)))


def look(extractor: Extractor, material: Material, made: Clips) -> Seen:
    """Features of everything, whitened where the protocol says so."""
    held_out = extractor.features(material.held_out)
    trained = extractor.features(material.trained) if len(material.trained) else held_out[:0]
    seen = Seen(held_out, trained, extractor.features(made))
    return seen.whitened() if extractor.protocol.whitened else seen


def set_metrics(extractor: Extractor, material: Material, seen: Seen) -> list[Measurement]:
    """Every metric that there are enough clips for, at least `LEAST`, with its interval and floor."""
    by_train = extractor.reference == "train" and len(seen.trained) >= LEAST
    real, other = (seen.trained, seen.held_out) if by_train else (seen.held_out, seen.trained)
    n = min(len(real), len(seen.made))
    height, width = material.held_out.shape[2:4]
    frames = min(material.held_out.shape[1], extractor.most_frames or material.held_out.shape[1])
    reference = "train" if by_train else "held_out" if material.kept_apart else "all"
    clips = Compared(frames=frames, height=height, width=width, frame_rate=material.frame_rate, n=n,
                     reference=reference)  # fmt: skip
    found = []
    for one in metrics_of(extractor, seen, n):
        # Neighbors of held-out clips stand for what is healthy, so the nearest ratio splits those.
        apart = one.kind == "nearest_ratio"
        numbers = estimate(
            one.metric, seen.held_out if apart else real, seen.made, other=None if apart else other,
            halves=one.halves, within=one.within,
        )  # fmt: skip
        told = {"features": extractor.protocol.model_dump(), "version": _VERSION}
        name = _published(extractor.kinds.get(one.kind, one.kind), extractor, clips)
        found.append(measurement(name, extractor.protocol.encoder, numbers, clips, protocol=told, better=one.better))
    return found


class SetMetric(NamedTuple):
    """A metric, which way is better, whether its interval comes from halves, and the values that there can be."""

    kind: str
    metric: Metric
    better: Better = "higher"
    halves: bool = True
    within: tuple[float, float] = (0.0, 1.0)


def metrics_of(extractor: Extractor, seen: Seen, n: int) -> list[SetMetric]:
    """Those that there are enough clips for."""
    # Statistics of published FVD are over N.
    gaussians = partial(frechet, freedom=0) if extractor.kinds.get("frechet") == "fvd" else frechet
    rows = [SetMetric("frechet", gaussians, "lower", False, _ANY), SetMetric("mmd", mmd, "lower", False, _ANY)]
    if n >= _LEAST_FOR_NEIGHBORS:
        rows += [SetMetric("precision", precision), SetMetric("recall", recall), SetMetric("coverage", coverage)]
        rows += [SetMetric("density", density, within=_ANY), SetMetric("diversity", diversity, "real", within=_ANY)]
        if len(seen.trained) >= _LEAST_FOR_NEIGHBORS and len(seen.held_out) >= _LEAST_FOR_NEIGHBORS:
            rows.append(SetMetric("nearest_ratio", partial(memorization, seen.trained), "real", within=_ANY))
    if extractor.classifies:
        rows.append(SetMetric("inception_score", lambda _, made: inception_score(made), "higher", False, _ANY))
    return rows


def _published(kind: str, extractor: Extractor, clips: Compared) -> str:
    """The name that papers give to exactly this setting, where they do."""
    exact = extractor.protocol.encoder == "i3d-k400-logits" and clips.reference == "train"
    return "fvd2048_16f" if kind == "fvd" and exact and (clips.n, clips.frames) == (_STYLEGAN_V, 16) else kind
