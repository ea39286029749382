"""One evaluation of one generator: distances to held-out clips, exact checks where the truth is known, and the cost."""

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidgen_core import scene
from vidgen_core.evaluation import truth
from vidgen_core.evaluation.distances import Measurement, frechet, measure, mmd
from vidgen_core.evaluation.features import protocol_hash, random_features
from vidgen_core.evaluation.settings import EvaluationSettings
from vidgen_core.frozen import Frozen

__all__ = ["Evaluation", "Makes", "evaluate"]

Clips = NDArray[np.uint8]


class Makes(Protocol):
    """What makes videos of prompts."""

    def videos(self, prompts: Sequence[str], *, seed: int = 0) -> Clips:
        """Videos uint8 [N, T, H, W, 3]."""
        ...


class Evaluation(Frozen):
    """Everything measured, as it is kept beside the model.

    Args:
        model: Digest of the generator.
        data: Digest of the data release.
        held_out: The training objective on held-out clips.
        distances: Set metrics.
        truth: Exact checks of generated clips; None when the data is not of the sample world.
        truth_real: The checker's own accuracy, on real held-out clips.
        not_run: What was not measured, and why.
        seconds_per_clip: Cost of sampling.

    """

    model: str
    data: str
    held_out: dict[str, float]
    distances: tuple[Measurement, ...]
    truth: truth.Score | None
    truth_real: truth.Score | None
    not_run: dict[str, str]
    seconds_per_clip: float

    def distance(self, name: str) -> Measurement | None:
        """The distance whose name begins so."""
        return next((one for one in self.distances if one.name.startswith(name)), None)


def evaluate(
    generator: Makes,
    real: Clips,
    captions: Sequence[str],
    settings: EvaluationSettings,
    *,
    identity: tuple[str, str],
    held_out: dict[str, float],
) -> tuple[Evaluation, Clips, list[str]]:
    """Measure a generator against held-out clips.

    Args:
        generator: What is judged.
        real: Held-out clips uint8 [N, T, H, W, 3].
        captions: Their captions.
        settings: How much.
        identity: Digests of the model and the data.
        held_out: Held-out values from training.

    Returns:
        The evaluation, and generated clips with their prompts to look at.

    """
    prompts = [captions[place % len(captions)] for place in range(settings.samples)]
    began = time.monotonic()
    made = generator.videos(prompts, seed=settings.seed)
    seconds = (time.monotonic() - began) / len(prompts)
    not_run: dict[str, str] = {"fvd": "needs I3D Kinetics-400 weights", "clip score": "needs open_clip weights"}
    distances: tuple[Measurement, ...] = ()
    if len(real) >= 8:
        features_real, features_made = random_features(real), random_features(made)
        distances = tuple(
            measure(name, function, features_real, features_made, protocol=protocol_hash())
            for name, function in (("rfd@random-conv64", frechet), ("rmmd@random-conv64", mmd))
        )
    else:
        not_run["distances"] = f"needs 8 held-out clips, there are {len(real)}"
    checked, checked_real = None, None
    shown, shown_prompts = made, prompts
    if all(scene.parse(caption) is not None for caption in captions):
        shown_prompts = scene.prompts(settings.truth_prompts, settings.seed)
        shown = generator.videos(shown_prompts, seed=settings.seed + 1)
        checked = truth.score(truth.observe(shown), shown_prompts)
        checked_real = truth.score(truth.observe(real), captions)
    else:
        not_run["truth"] = "the captions are not those of the sample world"
    result = Evaluation(
        model=identity[0], data=identity[1], held_out=held_out, distances=distances, truth=checked,
        truth_real=checked_real, not_run=not_run, seconds_per_clip=seconds,
    )  # fmt: skip
    return result, shown, list(shown_prompts)
