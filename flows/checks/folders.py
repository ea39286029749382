"""The home and the videos: whether they can be used, and how much room there is."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from data_prep.storage import place_of
from flows.checks._finding import Finding, State, Subject
from flows.home import MIN_FREE_BYTES
from vidgen_core.errors import VidgenError

__all__ = ["check"]

_COMFORTABLE_BYTES = 5 * 2**30


def check(subject: Subject) -> Iterator[Finding]:
    """The home, its disk, who else may read it, and the videos."""
    home = subject.home.expanduser().resolve()
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding(what="home", state=State.BAD, found=f"{there} cannot be written", move="Choose another --home")
        return
    yield Finding(what="home", state=State.GOOD, found=str(home) if there == home else f"{home}, to be made")
    yield _disk(there)
    if home.exists() and home.stat().st_mode & 0o022:
        yield Finding(
            what="permissions",
            state=State.DOUBTFUL,
            found=f"others may write into {home}",
            move=f"chmod go-w {home}: who changes its files changes models",
        )
    yield _videos(subject.videos)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    state = State.BAD if free < MIN_FREE_BYTES else State.DOUBTFUL if free < _COMFORTABLE_BYTES else State.GOOD
    move = "" if state is State.GOOD else "Free some space, or choose another --home"
    return Finding(what="disk", state=state, found=f"{free / 2**30:.1f} GiB are free", move=move)


def _videos(videos: str) -> Finding:
    try:
        place = place_of(videos)
        if isinstance(place, Path):
            empty = not place.is_dir() or not any(place.iterdir())
        else:
            empty = not any(place.names(folders=True))
    except VidgenError as error:
        return Finding(what="videos", state=State.BAD, found=error.what, move=error.move or "Check --videos")
    if empty:
        move = f"Put videos there, or make some: vidgen videos make {videos}"
        return Finding(what="videos", state=State.BAD, found=f"nothing in {videos}", move=move)
    return Finding(what="videos", state=State.GOOD, found=videos)
