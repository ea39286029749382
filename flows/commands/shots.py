"""`vidgen shots`: the kept shots as files."""

from pathlib import Path

from data_prep.run import PoolRunner
from data_prep.shot_files import MANIFEST, PRESETS, Encoding, Exported, export
from data_prep.sources import identify, list_files
from data_prep.tables import Tables
from flows.home import Home
from flows.spec import last_spec
from vidgen_core.errors import VidgenError

__all__ = ["export_shots"]


def export_shots(home: Home, out: Path, videos: Path | None, encoding: Encoding, workers: int) -> str:
    """Write what is missing; what was done.

    Raises:
        VidgenError: Nothing was prepared, x264 has no such preset, the folder cannot be made, or a source is gone or
            does not decode.

    """
    if encoding.preset not in PRESETS:
        raise VidgenError("x264 has no such preset", got=encoding.preset, allowed=", ".join(PRESETS))
    spec = last_spec(home, "prepare")
    where = videos or spec.videos
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VidgenError(
            "Shots cannot be written there", got=f"{out}: {error.strerror}", move="Change --out"
        ) from error
    with home.lock(), home.lock("stage"):
        sources = identify(list_files(where), where)
        tables, deadline_s = Tables(home.tables_dir), spec.recipe.data.source_deadline_s
        done = export(tables, sources, out, encoding=encoding, runner=PoolRunner(workers), deadline_s=deadline_s)
    if done.lost:
        raise VidgenError(
            f"{_said(done, out)}, but shots of {len(done.lost)} sources are missing",
            got="; ".join(f"{source}: {why}" for source, why in sorted(done.lost.items())),
            move="Name the folder with these videos with --videos; what is written stays",
        )
    return _said(done, out)


def _said(done: Exported, out: Path) -> str:
    return f"{done.written} shots written, {done.reused} were there: {out / MANIFEST}"
