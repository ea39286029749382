"""Measures of single clips, over all made clips beside the same over real ones."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from vidgen_core import discovery
from vidgen_core.clip import parse_rate
from vidgen_core.evaluation.distances import wasserstein
from vidgen_core.evaluation.extractors._contract import Clips, Extractor, StillExtractor
from vidgen_core.evaluation.measurements import Better, Measurement, estimate, mean_of
from vidgen_core.evaluation.motion_view import LARGEST_PX, LEAST_PX, MotionView
from vidgen_core.evaluation.protocols import measurement
from vidgen_core.evaluation.set_metrics import LEAST, Material

__all__ = ["consistency", "drift", "motion_measures", "spectra", "still_measures"]

_DRIFT_FRAMES = 16  # of each window; a clip must hold two
_VERSION = 1

Values = NDArray[np.float64]


def motion_measures(material: Material, made: Clips) -> tuple[list[Measurement], dict[str, str]]:
    """Files of `measures`, and distances of motion's distribution; then what was not run, and why."""
    frames, height, width = made.shape[1:4]
    if frames < 2 or min(height, width) < LEAST_PX:
        why = f"needs two frames of at least {LEAST_PX} pixels, clips are {frames} of {width} x {height}"
        return [], {"measures of motion": why}
    views = {"made": _views(made, material.frame_rate), "real": _views(material.held_out, material.frame_rate)}
    clips = material.compared(len(made), frames=frames)
    flow = {"flow": f"DIS medium, OpenCV {cv2.__version__.partition('.')[0]}", "largest_px": LARGEST_PX}
    found, not_run = [], {}
    energies: dict[str, Values] = {}
    for name in discovery.names("vidgen_core.evaluation.measures"):
        measure = discovery.load("vidgen_core.evaluation.measures", name)
        values = {of: _values(measure.of_clip, some) for of, some in views.items()}
        if name == "motion_energy":
            energies = {of: np.sqrt(some)[:, None] for of, some in values.items()}
        numbers = mean_of(values["made"], values["real"])
        if numbers is None:
            not_run[name] = "no generated clip moves, or no real one does"
            continue
        told = {"version": measure.VERSION, **flow}
        better = cast("Better", measure.BETTER)
        found.append(measurement(name, "clips", numbers, clips, protocol=told, better=better))
    if min(clips.n, len(material.held_out)) >= LEAST:
        spectrum = {of: spectra(some) for of, some in views.items()}
        for name, rows in (("motion_energy_distance", energies), ("temporal_spectrum_distance", spectrum)):
            numbers = estimate(wasserstein, rows["real"], rows["made"])
            told = {"version": _VERSION, "largest_px": LARGEST_PX}
            found.append(measurement(name, "luma", numbers, clips, protocol=told, better="lower"))
    return found, not_run


def still_measures(extractor: Extractor, material: Material, made: Clips) -> list[Measurement]:
    """How much alike frames of a clip are, and how far its end is from its beginning, in the extractor's space."""
    clips, found = material.compared(len(made), frames=made.shape[1]), []
    measures: list[tuple[str, Callable[[Clips], Values]]] = []
    if isinstance(extractor, StillExtractor) and clips.frames > 1:
        measures.append((extractor.consistency, partial(consistency, extractor)))
    if clips.frames >= 2 * _DRIFT_FRAMES:
        measures.append(("drift", partial(drift, extractor)))
    for name, measure in measures:
        numbers = mean_of(measure(made), measure(material.held_out))
        assert numbers is not None  # of values none of which is missing
        told = {"version": _VERSION, "features": extractor.protocol.model_dump()}
        found.append(measurement(name, extractor.protocol.encoder, numbers, clips, protocol=told, better="real"))
    return found


def consistency(extractor: StillExtractor, clips: Clips) -> Values:
    """Mean over frames of the cosines to the one before and to the first, negative ones as zero, halved.

    VBench's subject consistency where the extractor is DINO ViT-B/16, background consistency where it is CLIP ViT-B/32.
    """
    rows = []
    for clip in clips:
        features = extractor.stills_of(clip)
        units = features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
        before = (units[1:] * units[:-1]).sum(1).clip(0)
        first = (units[1:] @ units[0]).clip(0)
        rows.append(float((before + first).mean() / 2))
    return np.array(rows)


def drift(extractor: Extractor, clips: Clips) -> Values:
    """Distance of the last frames' features from those of the first, over the root of their dimensions."""
    start, end = (extractor.features(part) for part in (clips[:, :_DRIFT_FRAMES], clips[:, -_DRIFT_FRAMES:]))
    return np.sqrt(((end - start) ** 2).mean(1))


def spectra(views: Sequence[MotionView]) -> Values:
    """Decibels of the power of luma over time, at each frequency but zero, [N, T // 2]."""
    rows = []
    for view in views:
        luma = view.luma.astype(np.float64)
        power = np.abs(np.fft.rfft(luma - luma.mean(0), axis=0))[1:] ** 2 / len(luma)
        rows.append(10 * np.log10(1 + power.mean((1, 2))))
    return np.stack(rows)


def _views(clips: Clips, frame_rate: str) -> list[MotionView]:
    return [MotionView(clip, parse_rate(frame_rate)) for clip in clips]


def _values(measure: Callable[[MotionView], float | None], views: Sequence[MotionView]) -> Values:
    found = [measure(view) for view in views]
    return np.array([np.nan if value is None else value for value in found])
