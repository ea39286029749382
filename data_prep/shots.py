"""Shots from thumbnails: hard cuts by a change that stands out, dissolves by a picture halfway between its ends."""

import numpy as np
from numpy.typing import NDArray

from data_prep.settings import ShotSettings

__all__ = ["VERSION", "find_shots"]

VERSION = 1
_AROUND = 6  # frames on each side that a hard cut must stand out from
_REACH = 6  # frames on each side between which a dissolve is judged
_STRAIGHT = 0.25  # of the change: how far the middle of a dissolve may be from the mean of its ends


def find_shots(thumbs: NDArray[np.uint8], settings: ShotSettings) -> list[tuple[int, int]]:
    """Shots as frames [start, stop) of thumbnails [N, h, w, 3]; frames inside a dissolve belong to none."""
    frames = len(thumbs)
    if frames == 0:
        return []
    pictures = thumbs.astype(np.int16)
    cuts = _hard_cuts(pictures, settings)
    gaps = [] if frames <= 2 * _REACH else _dissolves(pictures, cuts, settings)
    inside = np.zeros(frames, bool)
    for start, stop in gaps:
        inside[start:stop] = True
    shots, start = [], 0
    for frame in range(1, frames + 1):
        if frame == frames or frame in cuts or inside[frame] != inside[frame - 1]:
            if not inside[start]:
                shots.append((start, frame))
            start = frame
    return shots


def _change(a: NDArray[np.int16], b: NDArray[np.int16]) -> NDArray[np.float64]:
    return np.abs(a - b).mean(axis=tuple(range(1, a.ndim)))


def _hard_cuts(pictures: NDArray[np.int16], settings: ShotSettings) -> set[int]:
    """Frames that begin a shot; a flash, after which the old picture returns, begins none."""
    changes = np.concatenate([[0.0], _change(pictures[1:], pictures[:-1])])
    cuts = set()
    for frame in np.flatnonzero(changes >= settings.cut_change).tolist():
        near = np.r_[changes[max(1, frame - _AROUND) : frame], changes[frame + 1 : frame + 1 + _AROUND]]
        if len(near) and changes[frame] < settings.cut_ratio * (np.median(near) + 0.5):
            continue
        after = pictures[frame + 1 : frame + 4]
        returns = len(after) and _change(after, pictures[frame - 1][None]).min() < changes[frame] / 3
        came_back = any(changes[frame] > 3 * _change(pictures[frame][None], pictures[past][None])[0]
                        for past in range(max(0, frame - 4), frame - 1))  # fmt: skip
        if not returns and not came_back:
            cuts.add(frame)
    return cuts


def _dissolves(pictures: NDArray[np.int16], cuts: set[int], settings: ShotSettings) -> list[tuple[int, int]]:
    """Stretches in which each picture is the mean of those before and after it, and these differ."""
    ends = _change(pictures[2 * _REACH :], pictures[: -2 * _REACH])
    middle = (pictures[2 * _REACH :] + pictures[: -2 * _REACH]) // 2
    bend = _change(pictures[_REACH:-_REACH], middle)
    inside = (ends >= settings.dissolve_change) & (bend <= _STRAIGHT * ends)
    for cut in cuts:
        inside[max(0, cut - 2 * _REACH) : cut] = False
    marks = np.flatnonzero(np.diff(np.r_[False, inside, False].astype(np.int8)))
    # Mark k stands for frame k + _REACH; the transition reaches as far as the ends it was judged by.
    return [(int(a), int(b) + 2 * _REACH) for a, b in marks.reshape(-1, 2)]
