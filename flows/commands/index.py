"""`vidgen index`: what is in a folder of videos, before anything is decoded."""

import json
from pathlib import Path

from data_prep.index import Indexed, hours, index
from data_prep.run import PoolRunner
from data_prep.settings import DataSettings
from data_prep.storage import place_of
from flows.commands.text import aligned
from vidgen_core.errors import VidgenError

__all__ = ["index_videos"]

_COLUMNS = ("uri", "container", "codec", "width", "height", "frame_rate", "duration_s", "frames", "keyframes")


def index_videos(videos: str, settings: DataSettings, *, look: bool, as_json: bool) -> str:
    """One line a file, and all together.

    Raises:
        VidgenError: The folder has no videos, or is not on this machine.

    """
    where = place_of(videos)
    if not isinstance(where, Path):
        raise VidgenError(
            "An index reads files of this machine", got=videos, move="Copy some videos here, or ask vidgen plan"
        )
    files = index(where, settings, PoolRunner(), look=look)
    if as_json:
        return json.dumps([one.model_dump(mode="json") for one in files], indent=1)
    columns = [*_COLUMNS, *(("shots", "clips") if look else ()), "problem"]
    rows = [[getattr(one, name) for name in columns] for one in files]
    return "\n".join([aligned([columns, *rows]), _together(files, look)])


def _together(files: list[Indexed], look: bool) -> str:
    good = [one for one in files if not one.problem]
    told = f"{len(files):,} files, {len(good):,} of them videos: {hours(good):.3g} hours"
    if not look:
        return told
    shots, clips = (sum(getattr(one, name) or 0 for one in good) for name in ("shots", "clips"))
    return f"{told}, about {shots:,} shots and {clips:,} clips before anything is dropped"
