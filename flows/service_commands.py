"""The part of the `vidgen` command that looks after runs: what works here, what runs, what is scheduled."""

import json
import os
import time
from typing import Annotated

import typer

from flows.commands.text import say
from flows.options import HOME, RECIPE, VIDEOS, AsJson, Changes, HomeDir, Jobs, Ray, Recipe, Videos

__all__ = ["service_app"]

service_app = typer.Typer()
_LOOK_EVERY_S = 1.0


@service_app.command()
def doctor(
    recipe: Recipe = RECIPE,
    videos: Videos = VIDEOS,
    home: HomeDir = HOME,
    changes: Changes = None,
    ray: Ray = "",
    jobs: Jobs = "",
    as_json: AsJson = False,
) -> None:
    """What works here, what is missing, and what to do about it; exit code 1 if a run would fail."""
    from flows.checks._finding import State, Subject
    from flows.commands.doctor import examine, told
    from flows.recipes.recipe import load

    findings = examine(
        Subject(
            home=home,
            videos=videos,
            recipe=load(recipe, changes or []),
            ray=ray,
            jobs=jobs,
            environment=dict(os.environ),
        )
    )
    say(told(findings, as_json=as_json))
    if any(one.state is State.BAD for one in findings):
        raise typer.Exit(1)


@service_app.command()
def status(
    home: HomeDir = HOME,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it, until Ctrl-C")] = False,
    as_json: AsJson = False,
) -> None:
    """What runs in a home, since when and how fast, and what ended how."""
    from rich.console import Console
    from rich.live import Live

    from flows.commands.status import page, statuses
    from flows.home import Home

    place = Home.open(home)
    if as_json:
        say(json.dumps([one.model_dump(mode="json") for one in statuses(place)], indent=1))
        return
    console = Console(highlight=False)
    if not watch:
        console.print(page(statuses(place)))
        return
    with Live(page(statuses(place)), console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            time.sleep(_LOOK_EVERY_S)
            live.update(page(statuses(place)), refresh=True)


@service_app.command()
def serve(  # noqa: PLR0913 - the options of a command
    recipe: Recipe = RECIPE,
    videos: Videos = VIDEOS,
    home: HomeDir = HOME,
    changes: Changes = None,
    ray: Ray = "",
    jobs: Jobs = "",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of Prefect's page, for this machine alone")] = 4200,
    metrics: Annotated[int, typer.Option("--metrics", min=0, max=65535, help="Port for Prometheus; 0 is none")] = 0,
    notify: Annotated[str, typer.Option("--notify", help="A web address that is told what went wrong")] = "",
) -> None:
    """Run the whole line at the recipe's hours (schedule.cron), each time for what is new; until it is stopped."""
    from flows.commands.launch import spec_of
    from flows.serving import Served, check_notify
    from flows.serving import serve as start

    check_notify(notify)
    spec = spec_of("", recipe, videos, home, changes or [], ray=ray, jobs=jobs)
    schedule = spec.recipe.schedule
    if "PREFECT_API_URL" not in os.environ:
        from flows.embedded import password_file

        say(f"Prefect's page: http://127.0.0.1:{port}, which asks for what is in {password_file(spec.home)}")
    say(f"{spec.recipe.name} at '{schedule.cron}' by the clock of {schedule.timezone}; stop with Ctrl-C")
    parameters = {"recipe": recipe, "videos": spec.videos, "home": str(spec.home_dir), "changes": changes or []}
    parameters |= {"ray": ray, "jobs": jobs}
    served = Served(
        name=spec.recipe.model, parameters=parameters, schedule=schedule, notify=notify, port=port, metrics=metrics
    )
    start(spec.home, served)
