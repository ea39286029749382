"""All set metrics over one extractor: distances, neighbors, memorization, and classes where it knows any."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vidgen_core.evaluation.distances import frechet, mmd
from vidgen_core.evaluation.extractors._contract import Clips, Extractor, Features
from vidgen_core.evaluation.inception import inception_score
from vidgen_core.evaluation.measurements import Better, Measurement, estimate
from vidgen_core.evaluation.neighbors import coverage, density, diversity, memorization, precision, recall
from vidgen_core.evaluation.protocols import Compared, measurement

__all__ = ["LEAST", "LEAST_FOR_NEIGHBORS", "Material", "Seen", "look", "set_metrics"]

LEAST = 8  # clips on each side
LEAST_FOR_NEIGHBORS = 12  # half of them must be more than the five neighbors
_VERSION = 1
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

    def whitened(self, scale: NDArray[np.float64]) -> "Seen":
        """Each dimension over its scale."""
        return Seen(self.held_out / scale, self.trained / scale, self.made / scale)


def look(extractor: Extractor, material: Material, made: Clips) -> Seen:
    """Features of everything, in units of the deviation of the held-out clips where the protocol says so."""
    held_out = extractor.features(material.held_out)
    trained = extractor.features(material.trained) if len(material.trained) else held_out[:0]
    seen = Seen(held_out, trained, extractor.features(made))
    return seen.whitened(held_out.std(0).clip(1e-8)) if extractor.protocol.whitened else seen


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
    for kind, metric, better, halves in _metrics(extractor, seen, n):
        # Neighbors of held-out clips stand for what is healthy, so memorization splits those.
        pool = None if kind == "memorization" else other
        numbers = estimate(
            metric, seen.held_out if kind == "memorization" else real, seen.made, other=pool, halves=halves
        )
        told = {"features": extractor.protocol.model_dump(), "version": _VERSION}
        name = _published(extractor.kinds.get(kind, kind), extractor, clips)
        found.append(measurement(name, extractor.protocol.encoder, numbers, clips, protocol=told, better=better))
    return found


def _metrics(extractor: Extractor, seen: Seen, n: int) -> list[tuple[str, Metric, Better, bool]]:
    """(kind, metric, which way is better, whether its interval comes from halves)."""
    # Statistics of published FVD are over N.
    gaussians = partial(frechet, freedom=0) if extractor.kinds.get("frechet") == "fvd" else frechet
    rows: list[tuple[str, Metric, Better, bool]] = [
        ("frechet", gaussians, "lower", False),
        ("mmd", mmd, "lower", False),
    ]
    if n >= LEAST_FOR_NEIGHBORS:
        rows += [
            ("precision", precision, "higher", True), ("recall", recall, "higher", True),
            ("density", density, "higher", True), ("coverage", coverage, "higher", True),
            ("diversity", diversity, "real", True),
        ]  # fmt: skip
        if len(seen.trained) >= LEAST_FOR_NEIGHBORS and len(seen.held_out) >= LEAST_FOR_NEIGHBORS:
            rows.append(("memorization", partial(memorization, seen.trained), "real", True))
    if extractor.classifies:
        rows.append(("inception_score", lambda _, made: inception_score(made), "higher", False))
    return rows


def _published(kind: str, extractor: Extractor, clips: Compared) -> str:
    """The name that papers give to exactly this setting, where they do."""
    exact = extractor.protocol.encoder == "i3d-k400-logits" and clips.reference == "train"
    return "fvd2048_16f" if kind == "fvd" and exact and (clips.n, clips.frames) == (_STYLEGAN_V, 16) else kind
