"""Shots of a file at about half of what decoding it costs: frames that no other frame needs are not decoded.

It is for looking over many files. `prepare` sees all frames anyway, and finds the shots in them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.decode import Undecodable, open_source
from data_prep.shots import ShotFinder, ShotSettings, Transition, between
from data_prep.view import thumb

__all__ = ["QuickShots", "quick_shots"]


@dataclass(frozen=True)
class QuickShots:
    """What the look found.

    Attributes:
        spans, transitions: See `Shots`.
        rotation: Degrees counter-clockwise to turn a picture for showing.

    """

    spans: list[tuple[int, int]]
    transitions: list[Transition]
    rotation: int


def quick_shots(file: Path, settings: ShotSettings) -> QuickShots:
    """Shots in frames of the file, as from all of them; a transition may begin some frames late.

    Raises:
        Undecodable: Not one picture comes out of the file.
        VidgenError: As for `ShotFinder`.

    """
    finder = ShotFinder(settings)
    seen: list[int] = []
    opened = open_source(file)
    with opened.container:
        opened.stream.codec_context.skip_frame = "NONREF"
        # Thumbnails do not show what the loop filter and exact arithmetic are for.
        opened.stream.codec_context.options = {"skip_loop_filter": "all", "flags2": "+fast"}
        for pts, frame in opened.frames():
            seen.append(pts)
            finder.push(thumb(frame)[None])
    if not seen:
        raise Undecodable("no_picture_decoded", "Its video stream decodes to no picture")
    every = _every_pts(opened.packet_pts, seen)
    places = np.append(np.searchsorted(every, seen), len(every))
    transitions = [_moved(transition, places) for transition in finder.finish().transitions]
    return QuickShots(between(transitions, len(every)), transitions, opened.rotation)


def _every_pts(told: list[int], seen: list[int]) -> NDArray[np.int64]:
    """Times of all frames, sorted, as packets tell them; where these do not agree with the decoder, of those seen."""
    every = np.unique(np.array(told, np.int64))
    return every if np.isin(seen, every).all() else np.array(seen, np.int64)


def _moved(transition: Transition, places: NDArray[np.intp]) -> Transition:
    if transition.hard:
        return Transition(int(places[transition.start]), int(places[transition.start]))
    return Transition(int(places[transition.start - 1]) + 1, int(places[transition.stop]))
