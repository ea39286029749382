"""The champion beside a candidate: measured again where its own evaluation does not compare, and drawn to look at."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidgen_core.applications.generator import Generator
from vidgen_core.errors import VidgenError
from vidgen_core.evaluation.evaluate import Draw, Evaluation, Shown
from vidgen_core.registry.gate import Rival, incomparable
from vidgen_core.registry.models import Version, evidence_of, fetch
from vidgen_core.registry.promotion import rival_of
from vidgen_core.registry.settings import GateSettings

__all__ = ["Measure", "Met", "meet"]

# As the candidate was measured: same clips, prompts, seeds and settings.
Measure = Callable[[Generator, Version], tuple[Evaluation, Shown]]


@dataclass(frozen=True)
class Met:
    """What came of it.

    Attributes:
        told: Which version it is, or why none stands beside the candidate.
        rival: For the evidence of the gate; None where there is nobody to compare with.
        version: The version that was met; None where there is none.
        clips: What it draws of the prompts and seed that are shown, uint8 [N, T, H, W, 3]; None where it draws nothing.

    """

    told: str
    rival: Rival | None = None
    version: Version | None = None
    clips: NDArray[np.uint8] | None = None


def meet(
    uri: str, name: str, cache_dir: Path, *, ours: Evaluation, draw: Draw, settings: GateSettings, measure: Measure
) -> Met:
    """Open whom the gate compares a candidate with; where its own numbers do not compare, measure it again.

    Args:
        uri: The registry.
        name: The registered model.
        cache_dir: Where copies of versions are kept.
        ours: What was measured of the candidate.
        draw: Prompts and seed of what is shown of the candidate, as many as are to be shown.
        settings: The gate that will decide.
        measure: Measures a generator as the candidate was measured.

    """
    version, instead = rival_of(uri, name)
    if version is None:
        return Met(instead)
    if version.model == ours.model:
        return Met("This model is the champion.")
    called = f"{version.name} version {version.version}"
    why, notes = incomparable(ours, _kept(uri, version), settings), [instead] if instead else []
    again = None
    try:
        generator = Generator.load(fetch(uri, f"{version.name}/{version.version}", cache_dir))
        if why:
            _check_shape(generator, draw)
            again, shown = measure(generator, version)
            clips = shown.draws[-1].clips[: len(draw.prompts)]
            notes.append(_measured_again(called, why, again, settings))
        else:
            clips = generator.videos(draw.prompts, seed=draw.seed)
    except VidgenError as mistake:
        notes.append(f"{called} cannot be drawn from: {mistake}")
        rival = Rival(version=called, model=version.model, notes=tuple(notes))
        return Met(notes[-1], rival, version)
    return Met(called, Rival(version=called, model=version.model, evaluation=again, notes=tuple(notes)), version, clips)


def _kept(uri: str, version: Version) -> Evaluation | None:
    """What was measured of it when the gate decided upon it; None where that was never kept, or cannot be read."""
    try:
        evidence = evidence_of(uri, version)
    except VidgenError:
        return None
    return None if evidence is None else evidence.evaluation


def _check_shape(generator: Generator, draw: Draw) -> None:
    wanted = tuple(draw.clips.shape[1:4])
    if generator.pixels != wanted:
        frames, height, width = generator.pixels
        raise VidgenError(
            "It makes clips of another shape, so it cannot be measured again",
            got=f"{frames} frames of {width} x {height}",
            allowed=f"{wanted[0]} frames of {wanted[2]} x {wanted[1]}",
        )


def _measured_again(called: str, why: str, again: Evaluation, settings: GateSettings) -> str:
    """That it was, why, and to what end."""
    found = [one for name in settings.distances if (one := again.distance(name)) is not None]
    numbers = ", ".join(f"{one.key} {one.value:.3f} ({one.low:.3f} to {one.high:.3f})" for one in found)
    return f"{called} was measured again with this candidate's clips, prompts and seeds, because {why}: {numbers}."
