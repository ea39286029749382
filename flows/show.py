"""What a person sees of a run: a line a stage, a bar while it works, and a table at the end."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from flows.spec import Progress, StageResult

__all__ = ["Show", "duration", "how", "table"]

# Without a terminal a bar cannot be redrawn, so a line is printed this often.
LINE_EVERY_S = 15.0


class Show:
    """The view of one stage; standard error, so that standard output stays clean for results."""

    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar, self._task = bar, task
        self._printed = time.monotonic()

    @classmethod
    @contextmanager
    def stage(cls, name: str) -> Iterator["Show"]:
        """Show a stage while the block runs."""
        console = Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.description:<22}"),
            BarColumn(),
            TextColumn("{task.fields[how]}"),
            TimeElapsedColumn(),
        )
        with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            yield cls(bar, bar.add_task(name, total=None, how=""))

    def progress(self, progress: Progress | None) -> None:
        """The stage is so far."""
        if progress is None:
            return
        told = how(progress)
        self._bar.update(
            self._task, description=progress.stage, completed=progress.done, total=progress.total, how=told
        )
        if self._bar.disable and time.monotonic() - self._printed > LINE_EVERY_S:
            self._printed = time.monotonic()
            self._bar.console.print(f"{progress.stage}: {told}")

    def done(self, result: StageResult) -> None:
        """The stage has answered."""
        rows = ", ".join(f"{row.count:,} {row.name}" for row in result.rows if row.count is not None)
        self._bar.console.print(f"{result.stage:<10}{duration(result.seconds):>8}  {rows}")


def table(results: Sequence[StageResult]) -> Table:
    """All stages with their rows and seconds."""
    made = Table("stage", "what", title="What was done", title_justify="left", header_style="bold")
    made.add_column("rows", justify="right")
    made.add_column("seconds", justify="right")
    made.add_column("remark", overflow="fold")
    for result in results:
        made.add_section()
        made.add_row(result.stage, "", "", f"{result.seconds:.1f}", "", style="bold")
        for row in result.rows:
            count = "" if row.count is None else f"{row.count:,}"
            made.add_row("", row.name, count, "" if row.seconds is None else f"{row.seconds:.1f}", row.note)
    made.add_section()
    made.add_row("all", "", "", f"{sum(result.seconds for result in results):.1f}", "", style="bold")
    return made


def duration(seconds: float) -> str:
    """A duration as a person says it: 9.4 s, 3:07 min, 1:02:00 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} h"


def how(progress: Progress) -> str:
    """How far, how fast and how long still, in a line."""
    parts = [f"{progress.done:,}" if progress.total is None else f"{progress.done:,}/{progress.total:,}"]
    if progress.rate:
        parts.append(f"{progress.rate:.3g}/s")
    if progress.remaining_s is not None:
        parts.append(f"{duration(progress.remaining_s)} left")
    parts += [_figure(name, value) for name, value in progress.figures.items() if name != "steps_per_s"]
    return "  ".join(parts)


def _figure(name: str, value: float) -> str:
    """A figure by the unit that its name ends with."""
    if name.endswith("_per_s"):
        return f"{value:,.0f} {name.removesuffix('_per_s')}/s"
    if name.endswith(("_share", "mfu")):
        return f"{name.removesuffix('_share')} {value:.1%}"
    return f"{name} {value:.4g}"
