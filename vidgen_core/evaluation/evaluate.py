"""One evaluation of one generator: distances to real clips, measures of motion, exact checks, and the cost."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidgen_core import scene
from vidgen_core.evaluation import truth
from vidgen_core.evaluation.clip_measures import motion_measures, still_measures
from vidgen_core.evaluation.extractors._contract import Extractor
from vidgen_core.evaluation.measurements import Measurement
from vidgen_core.evaluation.neighbors import nearest
from vidgen_core.evaluation.set_metrics import LEAST, Material, look, set_metrics
from vidgen_core.evaluation.settings import EvaluationSettings
from vidgen_core.evaluation.spaces import Spaces, open_spaces
from vidgen_core.evaluation.text_match import TextMatcher, text_match
from vidgen_core.frozen import Frozen
from vidgen_core.interfaces import VideoEncoder

__all__ = ["Draw", "Evaluation", "Makes", "Shown", "evaluate"]

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
        measures: Means over single clips, beside those over real ones.
        truth: Exact checks of generated clips; None when the data is not of the sample world.
        truth_real: The checker's own accuracy, on real held-out clips.
        not_run: What was not measured, and why.
        seconds_per_clip: Cost of sampling.

    """

    model: str
    data: str
    held_out: dict[str, float]
    distances: tuple[Measurement, ...]
    measures: tuple[Measurement, ...] = ()
    truth: truth.Score | None
    truth_real: truth.Score | None
    not_run: dict[str, str]
    seconds_per_clip: float

    def distance(self, name: str) -> Measurement | None:
        """The distance whose name begins so."""
        return next((one for one in self.distances if one.name.startswith(name)), None)


@dataclass(frozen=True)
class Draw:
    """Clips that were drawn together: `prompts` with one seed, clip i the i-th."""

    purpose: str
    clips: Clips
    prompts: list[str]
    seed: int

    def first(self, count: int) -> "Draw":
        """The first clips alone."""
        return Draw(self.purpose, self.clips[:count], self.prompts[:count], self.seed)


@dataclass(frozen=True)
class Shown:
    """What there is to look at.

    Attributes:
        draws: All that was drawn; the last is the one to show.
        mistakes: For each of its clips what is wrong with it, by the exact checks.
        nearest: For each of its clips the most similar training clip, an index; None without training clips.
        nearness: Their distance over the median one of held-out clips; far below 1 is a copy.

    """

    draws: tuple[Draw, ...]
    mistakes: list[tuple[str, ...]]
    nearest: NDArray[np.intp] | None
    nearness: NDArray[np.float64] | None


def evaluate(
    generator: Makes,
    material: Material,
    settings: EvaluationSettings,
    *,
    identity: tuple[str, str],
    held_out: dict[str, float],
    encoders: Mapping[str, VideoEncoder] = {},
    matchers: Sequence[TextMatcher] = (),
) -> tuple[Evaluation, Shown]:
    """Measure a generator against real clips.

    Args:
        generator: What is judged.
        material: Real clips.
        settings: How much, and in which spaces.
        identity: Digests of the model and the data.
        held_out: Held-out values from training.
        encoders: Trained encoders, by name, for further spaces.
        matchers: Further models of captions and clips.

    Raises:
        VidgenError: Weights that the settings name cannot be read; nothing is drawn before they are.

    """
    spaces = open_spaces(settings, encoders)
    spaces.matchers += matchers
    prompts = [material.captions[place % len(material.captions)] for place in range(settings.samples)]
    began = time.monotonic()
    drawn = Draw("distances", generator.videos(prompts, seed=settings.seed), prompts, settings.seed)
    seconds = (time.monotonic() - began) / len(prompts)
    not_run = dict(spaces.not_run)
    distances, measures, why = _in_all_spaces(spaces, material, drawn)
    not_run |= why
    of_motion, why = motion_measures(material, drawn.clips)
    not_run |= why
    checked, checked_real = None, None
    draws: list[Draw] = [drawn]
    mistakes: list[tuple[str, ...]] = [()] * len(prompts)
    if all(scene.parse(caption) is not None for caption in material.captions):
        draws.append(_draw_worlds(generator, settings))
        seen = truth.observe(draws[-1].clips)
        checked, mistakes = truth.score(seen, draws[-1].prompts), truth.mistakes(seen, draws[-1].prompts)
        checked_real = truth.score(truth.observe(material.held_out), material.captions)
    else:
        not_run["truth"] = "the captions are not those of the sample world"
    result = Evaluation(
        model=identity[0], data=identity[1], held_out=held_out, distances=tuple(distances),
        measures=(*measures, *of_motion), truth=checked, truth_real=checked_real, not_run=not_run,
        seconds_per_clip=seconds,
    )  # fmt: skip
    closest, nearness = _nearest(spaces.extractors[0], material, draws[-1].clips)
    return result, Shown(tuple(draws), mistakes, closest, nearness)


def _draw_worlds(generator: Makes, settings: EvaluationSettings) -> Draw:
    """Clips of prompts of the sample world, for the exact checks."""
    asked, seed = scene.prompts(settings.truth_prompts, settings.seed), settings.seed + 1
    return Draw("truth", generator.videos(asked, seed=seed), list(asked), seed)


def _in_all_spaces(
    spaces: Spaces, material: Material, drawn: Draw
) -> tuple[list[Measurement], list[Measurement], dict[str, str]]:
    """Distances, measures, and what was not run."""
    distances, measures, not_run = [], [], {}
    frames, few = material.held_out.shape[1], min(len(material.held_out), len(drawn.clips))
    for extractor in spaces.extractors:
        name = extractor.protocol.encoder
        if frames < extractor.least_frames:
            not_run[name] = f"needs {extractor.least_frames} frames, clips have {frames}"
            continue
        measures += still_measures(extractor, material, drawn.clips)
        if few < LEAST:
            not_run["distances"] = f"need {LEAST} held-out clips and as many samples, there are {few}"
            continue
        distances += set_metrics(extractor, material, look(extractor, material, drawn.clips))
    measures += [text_match(one, material, drawn.clips, drawn.prompts) for one in spaces.matchers]
    return distances, measures, not_run


def _nearest(
    extractor: Extractor, material: Material, clips: Clips
) -> tuple[NDArray[np.intp], NDArray[np.float64]] | tuple[None, None]:
    """The most similar training clips, and how near they are."""
    if not len(material.trained):
        return None, None
    seen = look(extractor, material, clips)
    return nearest(seen.trained, seen.held_out, seen.made)
