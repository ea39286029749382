"""What `vidgen run` and its stages are asked, checked before anything is started."""

import signal
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from data_prep.fetching import check_videos
from data_prep.storage import place_of
from flows.cluster import check_address
from flows.home import Home
from flows.recipes.recipe import load
from flows.several_shapes import check_shapes
from flows.show import table
from flows.spec import Spec
from flows.stopping import stop
from flows.teacher import with_teacher

__all__ = ["run_spec", "spec_of"]


def spec_of(  # noqa: PLR0913 - the options of a command
    stage: str, recipe: str, videos: str, home_dir: Path, changes: Sequence[str], *, ray: str, jobs: str,
    tables: str | None = None,
) -> Spec:  # fmt: skip
    """The first stage to run; `stage` is "" for all of them.

    Raises:
        VidgenError: The recipe, the videos, the home, where tables or models lie, or the cluster's address cannot be;
            or what comes after `prepare` does not take the shapes of its clips.

    """
    chosen = load(recipe, changes)
    if stage != "prepare":
        check_shapes(chosen)
    if ray:
        check_address(ray)
    check_videos(videos)
    home = Home.open(home_dir)
    if tables is not None:
        home.keep_tables_at(tables)
    home.keep_named_registry()
    chosen = with_teacher(chosen, home)
    place = place_of(videos)
    where = str(place.resolve()) if isinstance(place, Path) else place.uri
    return Spec(stage=stage or "prepare", recipe=chosen, videos=where, home_dir=home.root, ray=ray, jobs=jobs)


def run_spec(spec: Spec, stage: str) -> None:
    """Run one stage, or all of them for "", under a Prefect server of our own, and show what was done."""
    from flows.embedded import prefect_server

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with spec.home.lock(), prefect_server(spec.home):
        from flows.pipeline import STAGE_FLOWS, pipeline

        results = [STAGE_FLOWS[stage](spec)] if stage else pipeline(spec)
    Console(highlight=False).print(table(results))
