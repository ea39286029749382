"""`vidgen status`: what runs in a home, since when, how fast, and what ended how."""

import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flows.failures import Mistake
from flows.home import Home
from flows.launch.local import progress
from flows.show import duration, how
from flows.spec import STAGES, Progress, Spec, StageResult, read_spec
from vidgen_core.frozen import Frozen

__all__ = ["StageStatus", "page", "statuses"]


class StageStatus(Frozen):
    """One stage of one run.

    Args:
        run: The run's key.
        recipe: Its recipe.
        stage: Its stage.
        state: "running", "done", "failed", or "stopped" where it neither works nor has answered.
        began: When it was asked, in seconds since 1970.
        seconds: How long it took, or has taken so far; None where it was stopped.
        where: The process and machine that work on it; "" where none does.
        progress: How far it is.
        counts: What it counted, where it is done.
        said: The sentence it failed with, or its counts.

    """

    run: str
    recipe: str
    stage: str
    state: str
    began: float
    seconds: float | None = None
    where: str = ""
    progress: Progress | None = None
    counts: dict[str, int] = {}
    said: str = ""


def statuses(home: Home, *, now: float | None = None) -> list[StageStatus]:
    """Every stage of every run of a home, the latest first."""
    now = time.time() if now is None else now
    holder = _holder(home.root / "stage.lock")
    found = [
        (file.stat().st_mtime, spec)
        for file in home.runs_dir.glob("*/*.spec.json")
        if (spec := read_spec(file)) is not None and spec.stage in STAGES
    ]
    found.sort(key=lambda one: (one[0], STAGES.index(one[1].stage)), reverse=True)
    told = []
    for place, (began, spec) in enumerate(found):
        # A home does one stage at a time: the one that was asked last.
        told.append(_status(spec, began, holder if place == 0 else "", now))
    return told


def _status(spec: Spec, began: float, holder: str, now: float) -> StageStatus:
    status = StageStatus(run=spec.run_key, recipe=spec.recipe.name, stage=spec.stage, state="stopped", began=began)
    if (file := spec.result_file(spec.stage)).exists():
        result = StageResult.model_validate_json(file.read_text())
        counts = {row.name: row.count for row in result.rows if row.count is not None}
        said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        return status.model_copy(update={"state": "done", "seconds": result.seconds, "counts": counts, "said": said})
    if spec.mistake_file.exists():
        mistake = Mistake.model_validate_json(spec.mistake_file.read_text())
        seconds = spec.mistake_file.stat().st_mtime - began
        return status.model_copy(update={"state": "failed", "seconds": seconds, "said": str(mistake.error())})
    if holder:
        update = {"state": "running", "seconds": now - began, "where": holder, "progress": progress(spec)}
        return status.model_copy(update=update)
    return status.model_copy(update={"said": f"its log: {spec.log_file}"})


def _holder(file: Path) -> str:
    """Who holds a lock of a home, as "process on machine"; "" for nobody."""
    if not file.exists():
        return ""
    with file.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return stream.read().strip()
    return ""


def page(told: list[StageStatus], *, latest: int = 12) -> RenderableType:
    """The statuses as a page of a terminal."""
    if not told:
        return Text("Nothing was run in this home.")
    table = Table("stage", "recipe", "run", "state", "since", box=None, header_style="bold")
    table.add_column("took", justify="right")
    table.add_column("how far", overflow="fold")
    for one in told[:latest]:
        style = {"running": "bold", "failed": "red", "stopped": "dim"}.get(one.state, "")
        took = "" if one.seconds is None else duration(one.seconds)
        since = time.strftime("%m-%d %H:%M:%S", time.localtime(one.began))
        far = how(one.progress) if one.progress else one.said
        table.add_row(one.stage, one.recipe, one.run[:8], one.state, since, took, far, style=style)
    return Group(*_working(told[0]), table)


def _working(first: StageStatus) -> Iterator[RenderableType]:
    if first.state == "running":
        yield Text(f"{first.stage} works as process {first.where}")
        if first.progress is not None and first.progress.total:
            yield ProgressBar(total=first.progress.total, completed=first.progress.done, width=60)
