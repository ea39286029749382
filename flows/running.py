"""What commands ask for, as values; and running stages for them, under a Prefect server of our own."""

import signal
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.stopping import stop

__all__ = ["data_settings", "launch", "run_spec"]


def launch(  # noqa: PLR0913 - the options of its commands
    stage: str, recipe: str, videos: str, home_dir: Path, changes: list[str] | None, ray: str = "", jobs: str = "",
    tables: str | None = None,
) -> None:  # fmt: skip
    """Run one stage, or all of them, under a Prefect server of our own."""
    from flows.commands.launch import spec_of

    spec = spec_of(stage, recipe, videos, home_dir, changes or [], ray=ray, jobs=jobs, tables=tables)
    run_spec(spec, spec.home, stage)


def run_spec(spec: Any, home: Any, stage: str) -> None:
    """Run one stage, or all of them for "", and show what was done."""
    from flows.embedded import prefect_server
    from flows.show import table

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with home.lock(), prefect_server(home):
        from flows.pipeline import STAGE_FLOWS, pipeline

        results = [STAGE_FLOWS[stage](spec)] if stage else pipeline(spec)
    Console(highlight=False).print(table(results))


def data_settings(home: Any, recipe: str | None, changes: list[str] | None) -> Any:
    """The data settings of a recipe that was named, or of the latest prepare; with changes."""
    from flows.recipes.recipe import load, override
    from flows.spec import last_spec

    chosen = last_spec(home, "prepare").recipe if recipe is None else load(recipe)
    return override(chosen, changes or []).data
