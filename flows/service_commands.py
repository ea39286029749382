"""The part of the `vidgen` command that looks after runs: what works here, what runs, what is scheduled."""

import os
from typing import Annotated

import typer

from flows.commands.text import say
from flows.options import HOME, RECIPE, VIDEOS, AsJson, Changes, HomeDir, Ray, Recipe, Videos

__all__ = ["service_app"]

service_app = typer.Typer()


@service_app.command()
def doctor(
    recipe: Recipe = RECIPE,
    videos: Videos = VIDEOS,
    home: HomeDir = HOME,
    changes: Changes = None,
    ray: Ray = "",
    jobs: Annotated[str, typer.Option("--jobs", help="A Ray cluster's job server: http://HOST:8265")] = "",
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
