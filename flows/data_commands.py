"""The part of the `vidgen` command that reads the data and what was planned for it, or changes it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.text import say
from flows.options import HOME, RECIPE, VIDEOS, AsJson, Changes, HomeDir, Recipe, Videos
from vidgen_core.errors import VidgenError

__all__ = ["data_app"]

data_app = typer.Typer()
plan_app = typer.Typer(no_args_is_help=True, help="What a stage would do, before it does it.")
data_app.add_typer(plan_app, name="plan")


@data_app.command("index")
def index_(
    videos: Videos = VIDEOS,
    shots: Annotated[bool, typer.Option("--shots", help="Also look for shots, at half the cost of decoding")] = False,
    recipe: Recipe = RECIPE,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """What is in a folder of videos: hours, frames and keyframes, from packets alone."""
    from flows.commands.index import index_videos
    from flows.recipes.recipe import load

    say(index_videos(videos, load(recipe, changes or []).data, look=shots, as_json=as_json))


@data_app.command()
def query(
    sql: str,
    home: HomeDir = HOME,
    kind: Annotated[str, typer.Option("--format", help="table, csv or json")] = "table",
    as_json: AsJson = False,
) -> None:
    """SQL over the tables, for example: select reason, count(*) from rejects group by 1."""
    from flows.commands.query import query as ask
    from flows.home import Home

    say(ask(Home.open(home), sql, "json" if as_json else kind))


@plan_app.command("prepare")
def plan_prepare(
    recipe: Recipe = RECIPE,
    videos: Videos = VIDEOS,
    home: HomeDir = HOME,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """How much of each step of `vidgen prepare` is new, stale and why, there already, or to be removed."""
    from flows.commands.plan import plan_prepare as plan
    from flows.home import Home
    from flows.recipes.recipe import load

    say(plan(Home.open(home), videos, load(recipe, changes or []), as_json=as_json))


@plan_app.command("train")
def plan_train(
    recipe: Recipe = RECIPE,
    changes: Changes = None,
    on: Annotated[
        list[str] | None, typer.Option("--on", help="cpu (measured now), a100, h100, h200, b200, ...")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Parameters, operations, memory and time of the recipe's trainings, before a device is touched."""
    from flows.commands.plan_train import plan_train as plan
    from flows.recipes.recipe import load

    say(plan(load(recipe, changes or []), on or ["cpu", "a100", "h100", "h200", "b200"], as_json=as_json))


@data_app.command()
def explain(
    what: Annotated[str, typer.Argument(help="A clip, a source or a file; the beginning of an id will do")],
    home: HomeDir = HOME,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Instead of the recipe of the latest prepare")] = None,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """What became of a clip: every score against its threshold, what dropped it, its media, who learned from it."""
    from flows.commands.explain import explain as tell
    from flows.home import Home

    place = Home.open(home)
    say(tell(place, what, _data_settings(place, recipe, changes), as_json=as_json))


@data_app.command()
def lineage(
    model: Annotated[str, typer.Argument(help="name@alias or name/version")],
    home: HomeDir = HOME,
    as_json: AsJson = False,
) -> None:
    """From a registered version to its run, its data release and its clips, and what was decided about it."""
    from flows.commands.lineage import lineage as tell
    from flows.home import Home

    say(tell(Home.open(home), model, as_json=as_json))


@data_app.command()
def export(
    clip: Annotated[str, typer.Argument(help="A clip; the beginning of its id will do")],
    out: Annotated[Path, typer.Option("--out", help="An .mp4 or .mkv file")],
    home: HomeDir = HOME,
) -> None:
    """Write a clip into a file, with its sound where data.audio kept it."""
    from data_prep.export import export_clip
    from flows.home import Home

    say(export_clip(Home.open(home).tables(), clip, out))


@data_app.command()
def retry(
    home: HomeDir = HOME,
    reason: Annotated[str | None, typer.Option("--reason", help="Only what was lost for this reason")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Only this source: its id or its file")] = None,
) -> None:
    """Try again what errors took, with the recipe and the videos of the latest prepare in this home."""
    from flows.commands.launch import run_spec
    from flows.commands.retry import mark, outcome
    from flows.home import Home
    from flows.spec import last_spec

    place = Home.open(home)
    spec = last_spec(place, "prepare")
    asked = mark(place, reason, source)
    try:
        run_spec(spec, "prepare")
    except VidgenError:
        say(outcome(place, asked))
        raise
    say(outcome(place, asked))


@data_app.command()
def forget(
    source: Annotated[str, typer.Argument(help="A source's id or its file")],
    home: HomeDir = HOME,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
) -> None:
    """Take a source down: everything of it leaves the tables and the disk, and no later run takes it in again."""
    from flows.commands.forget import forget_source
    from flows.home import Home

    say(forget_source(Home.open(home), source, sure=lambda what: yes or typer.confirm(f"Remove {what} Go on?")))


@data_app.command()
def vacuum(
    home: HomeDir = HOME,
    keep_days: Annotated[float, typer.Option("--keep-days", help="Versions as young as that stay readable")] = 7.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove files that left the tables long ago and that no release of a registered version needs."""
    from flows.commands.vacuum import vacuum_tables
    from flows.home import Home

    say(vacuum_tables(Home.open(home), keep_days=keep_days, dry_run=dry_run, as_json=as_json))


@data_app.command()
def card(
    out: Annotated[Path, typer.Option("--out", help="An .html file")],
    home: HomeDir = HOME,
    videos: Annotated[str | None, typer.Option("--videos", help="Where the videos of the latest prepare are")] = None,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Instead of the recipe of the latest prepare")] = None,
    changes: Changes = None,
) -> None:
    """The data card: funnel, scores with their thresholds, what other thresholds would keep, clips beside each line."""
    from flows.commands.card import write_card
    from flows.home import Home

    place = Home.open(home)
    say(write_card(place, out, _data_settings(place, recipe, changes), videos))


@data_app.command()
def shots(
    out: Annotated[Path, typer.Option("--out", help="A folder for the files and their list")],
    home: HomeDir = HOME,
    videos: Annotated[Path | None, typer.Option("--videos", help="Where the videos of the latest prepare are")] = None,
    crf: Annotated[int, typer.Option(min=0, max=51, help="x264's rate factor: lower is better and larger")] = 23,
    preset: Annotated[str, typer.Option(help="x264's preset: slower is smaller")] = "superfast",
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 is one a core")] = 0,
) -> None:
    """The kept shots as video files: whole, at the size and rate of their source."""
    from data_prep.shot_files import Encoding
    from flows.commands.shots import export_shots
    from flows.home import Home

    say(export_shots(Home.open(home), out, videos, Encoding(crf=crf, preset=preset), workers))


def _data_settings(home: Any, recipe: str | None, changes: list[str] | None) -> Any:
    """The data settings of a recipe that was named, or of the latest prepare; with changes."""
    from flows.recipes.recipe import load, override
    from flows.spec import last_spec

    chosen = last_spec(home, "prepare").recipe if recipe is None else load(recipe)
    return override(chosen, changes or []).data
