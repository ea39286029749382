"""The `vidgen` command: a thin page over recipes. Exit code 0 only if the work was done."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from flows.failures import MISTAKE_EXIT, StageCrashedError, disk_full, is_disk_full
from flows.options import AsJson, Changes, HomeDir, Ray, Recipe, TablesAt, Videos
from flows.running import data_settings, launch, run_spec
from flows.stopping import stop
from vidgen_core.errors import VidgenError

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
videos_app = typer.Typer(no_args_is_help=True, help="Sample videos.")
app.add_typer(videos_app, name="videos")
plan_app = typer.Typer(no_args_is_help=True, help="What a stage would do, before it does it.")
app.add_typer(plan_app, name="plan")
_out, _err = Console(highlight=False), Console(stderr=True, highlight=False)

_HOME, _VIDEOS, _RECIPE = Path(".vidgen"), ".vidgen/videos", "shapes.demo"


def main() -> None:
    """The console script."""
    try:
        # An interrupt comes back as the code that a shell expects of it, and not as an exception.
        if app(standalone_mode=False) == 128 + signal.SIGINT:
            raise KeyboardInterrupt
    except typer.Exit as error:
        _leave("", error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _leave("Stopped. The same command goes on from here.", stop.code)
    except StageCrashedError as error:
        _leave(str(error), 1)
    except Exception as error:
        # Bad input gets a sentence; everything else is a bug, whose traceback belongs into a report.
        sentence = _sentence(error)
        if sentence is None:
            raise
        _leave(sentence, error.exit_code if isinstance(error, VidgenError) else MISTAKE_EXIT)
    _leave("", 0)


def _sentence(error: Exception) -> str | None:
    """What to tell of a mistake of the user's or a full disk; None for anything else."""
    if isinstance(error, VidgenError):
        return str(error)
    if is_disk_full(error):
        return str(disk_full(_HOME))
    # The command line's own complaints, such as an unknown option.
    return str(getattr(error, "message", error)) if type(error).__module__.startswith(("click", "typer")) else None


@app.command()
def run(
    recipe: Recipe = _RECIPE, videos: Videos = _VIDEOS, home: HomeDir = _HOME, tables: TablesAt = None,
    changes: Changes = None, ray: Ray = "",
) -> None:  # fmt: skip
    """The whole line: from videos to a promoted model."""
    launch("", recipe, videos, home, changes, ray, tables=tables)


@app.command()
def prepare(
    recipe: Recipe = _RECIPE, videos: Videos = _VIDEOS, home: HomeDir = _HOME, tables: TablesAt = None,
    changes: Changes = None, ray: Ray = "",
) -> None:  # fmt: skip
    """Videos to scored, captioned clips."""
    launch("prepare", recipe, videos, home, changes, ray, tables=tables)


@app.command()
def latents(  # noqa: PLR0913 - typer makes an option of each
    recipe: Recipe = _RECIPE,
    videos: Videos = _VIDEOS,
    home: HomeDir = _HOME,
    changes: Changes = None,
    ray: Ray = "",
    verify: Annotated[bool, typer.Option("--verify", help="Make a share again and compare; writes nothing")] = False,
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="With --verify: how much of it")] = 0.05,
    seed: Annotated[int, typer.Option(help="With --verify: which share")] = 0,
    tolerance: Annotated[float, typer.Option(min=0.0, help="With --verify: of |stored - made| / (1 + |made|)")] = 0.01,
    as_json: AsJson = False,
) -> None:
    """Clips to latents, captions to vectors."""
    if not verify:
        launch("latents", recipe, videos, home, changes, ray)
        return
    from flows.commands.verify import mismatch, told
    from flows.commands.verify import verify as compare
    from flows.home import Home

    place = Home.open(home)
    results = compare(place, share=share, seed=seed, tolerance=tolerance)
    _say(told(results, as_json=as_json))
    if (wrong := mismatch(place, results)) is not None:
        raise wrong


@app.command()
def train(
    recipe: Recipe = _RECIPE, videos: Videos = _VIDEOS, home: HomeDir = _HOME, changes: Changes = None, ray: Ray = "",
    prove: Annotated[bool, typer.Option("--prove-resume", help="Prove that it resumes exactly")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Latents to a generator; or the proof that a killed training goes on as if nothing had happened."""
    if not prove:
        return launch("train", recipe, videos, home, changes, ray)
    from flows.commands.launch import spec_of
    from flows.commands.prove import prove_resume

    spec = spec_of("train", recipe, videos, home, changes or [], ray="", jobs="")
    raise typer.Exit(prove_resume(spec, say=_say, as_json=as_json))


@app.command()
def average(
    length: Annotated[float, typer.Option("--length", help="Relative length of the average, above 0 and up to 0.288")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the generator")],
    home: HomeDir = _HOME,
) -> None:
    """The generator of the latest training with an average of its weights of another length (training.ema_lengths)."""
    from flows.commands.average import write_average
    from flows.home import Home

    _say(write_average(Home.open(home), length, out))


@app.command()
def evaluate(
    recipe: Recipe = _RECIPE, videos: Videos = _VIDEOS, home: HomeDir = _HOME, changes: Changes = None
) -> None:
    """Measure the generator."""
    launch("evaluate", recipe, videos, home, changes)


@app.command()
def release(recipe: Recipe = _RECIPE, videos: Videos = _VIDEOS, home: HomeDir = _HOME, changes: Changes = None) -> None:
    """Register the generator; the gate decides whether it becomes the champion."""
    launch("release", recipe, videos, home, changes)


@app.command()
def submit(  # noqa: PLR0913 - the options of a command
    jobs: Annotated[str, typer.Option("--jobs", help="The Ray cluster's job server: http://HOST:8265")],
    stage: Annotated[str, typer.Argument(help="prepare, latents, train, evaluate or release; all without it")] = "",
    recipe: Recipe = _RECIPE,
    videos: Videos = _VIDEOS,
    home: HomeDir = _HOME,
    changes: Changes = None,
) -> None:
    """The same as jobs of a Ray cluster that has the home, see docs/cluster.md; given again, it watches what runs."""
    from flows.spec import STAGES

    if stage not in ("", *STAGES):
        raise VidgenError("There is no such stage", got=stage, allowed=", ".join(STAGES))
    launch(stage, recipe, videos, home, changes, jobs=jobs)


@app.command()
def sample(  # noqa: PLR0913 - an option each
    prompt: Annotated[list[str], typer.Option("--prompt", help="What to show; may be given several times")],
    out: Annotated[Path, typer.Option("--out", help="An .mp4 file")],
    model: Annotated[str, typer.Option("--model", help="name@alias or name/version")] = "shapes@champion",
    home: HomeDir = _HOME,
    seed: int = 0,
    steps: Annotated[int | None, typer.Option(min=1, max=1000)] = None,
    guidance: float | None = None,
    condition: Annotated[
        list[str] | None,
        typer.Option("--condition", help="A score to ask for: motion=80% (a rank), motion=1.5, motion=null"),
    ] = None,
) -> None:
    """Draw videos from a registered model; several prompts stand side by side."""
    from flows.home import Home
    from flows.sampling import draw

    changes = {"steps": steps, "guidance": guidance}
    draw(Home.open(home), model, prompt, out, seed=seed, changes=changes, conditions=condition or [])
    _out.print(f"{out}")


@videos_app.command("make")
def videos_make(directory: Path, count: Annotated[int, typer.Option(min=1)] = 200, seed: int = 0) -> None:
    """Make sample videos of moving shapes, with captions and truth beside them."""
    from data_prep.samples import make

    made = make(directory, count=count, seed=seed)
    _out.print(f"{len(made.files)} videos in {directory}, {len(made.broken)} of them broken on purpose")


@app.command()
def recipes(as_json: AsJson = False) -> None:
    """What recipes there are."""
    from flows.recipes.recipe import load, names

    _tell({name: load(name).model_dump(mode="json") for name in names()} if as_json else names(), as_json)


@app.command()
def families(as_json: AsJson = False) -> None:
    """What families, codecs, encoders and samplers there are."""
    from vidgen_core import discovery

    kinds = ("families", "codecs", "encoders", "samplers")
    there = {kind: discovery.names(f"vidgen_core.{kind}") for kind in kinds}
    _tell(there if as_json else [f"{kind}: {', '.join(names)}" for kind, names in there.items()], as_json)


@app.command("index")
def index_(
    videos: Videos = _VIDEOS,
    shots: Annotated[bool, typer.Option("--shots", help="Also look for shots, at half the cost of decoding")] = False,
    recipe: Recipe = _RECIPE,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """What is in a folder of videos: hours, frames and keyframes, from packets alone."""
    from flows.commands.index import index_videos
    from flows.recipes.recipe import load

    _say(index_videos(videos, load(recipe, changes or []).data, look=shots, as_json=as_json))


@app.command()
def query(
    sql: str,
    home: HomeDir = _HOME,
    kind: Annotated[str, typer.Option("--format", help="table, csv or json")] = "table",
    as_json: AsJson = False,
) -> None:
    """SQL over the tables, for example: select reason, count(*) from rejects group by 1."""
    from flows.commands.query import query as ask
    from flows.home import Home

    _say(ask(Home.open(home), sql, "json" if as_json else kind))


@plan_app.command("prepare")
def plan_prepare(
    recipe: Recipe = _RECIPE,
    videos: Videos = _VIDEOS,
    home: HomeDir = _HOME,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """How much of each step of `vidgen prepare` is new, stale and why, there already, or to be removed."""
    from flows.commands.plan import plan_prepare as plan
    from flows.home import Home
    from flows.recipes.recipe import load

    _say(plan(Home.open(home), videos, load(recipe, changes or []), as_json=as_json))


@plan_app.command("train")
def plan_train(
    recipe: Recipe = _RECIPE,
    changes: Changes = None,
    on: Annotated[
        list[str] | None, typer.Option("--on", help="cpu (measured now), a100, h100, h200, b200, ...")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Parameters, operations, memory and time of the recipe's trainings, before a device is touched."""
    from flows.commands.plan_train import plan_train as plan
    from flows.recipes.recipe import load

    _say(plan(load(recipe, changes or []), on or ["cpu", "a100", "h100", "h200", "b200"], as_json=as_json))


@app.command()
def explain(
    what: Annotated[str, typer.Argument(help="A clip, a source or a file; the beginning of an id will do")],
    home: HomeDir = _HOME,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Instead of the recipe of the latest prepare")] = None,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """What became of a clip: every score against its threshold, what dropped it, its media, who learned from it."""
    from flows.commands.explain import explain as tell
    from flows.home import Home

    place = Home.open(home)
    _say(tell(place, what, data_settings(place, recipe, changes), as_json=as_json))


@app.command()
def export(
    clip: Annotated[str, typer.Argument(help="A clip; the beginning of its id will do")],
    out: Annotated[Path, typer.Option("--out", help="An .mp4 or .mkv file")],
    home: HomeDir = _HOME,
) -> None:
    """Write a clip into a file, with its sound where data.audio kept it."""
    from data_prep.export import export_clip
    from flows.home import Home

    _say(export_clip(Home.open(home).tables(), clip, out))


@app.command()
def retry(
    home: HomeDir = _HOME,
    reason: Annotated[str | None, typer.Option("--reason", help="Only what was lost for this reason")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Only this source: its id or its file")] = None,
) -> None:
    """Try again what errors took, with the recipe and the videos of the latest prepare in this home."""
    from flows.commands.retry import mark, outcome
    from flows.home import Home
    from flows.spec import last_spec

    place = Home.open(home)
    spec = last_spec(place, "prepare")
    asked = mark(place, reason, source)
    try:
        run_spec(spec, place, "prepare")
    except VidgenError:
        _say(outcome(place, asked))
        raise
    _say(outcome(place, asked))


@app.command()
def forget(
    source: Annotated[str, typer.Argument(help="A source's id or its file")],
    home: HomeDir = _HOME,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
) -> None:
    """Take a source down: everything of it leaves the tables and the disk, and no later run takes it in again."""
    from flows.commands.forget import forget_source
    from flows.home import Home

    _say(forget_source(Home.open(home), source, sure=lambda what: yes or typer.confirm(f"Remove {what} Go on?")))


@app.command()
def card(
    out: Annotated[Path, typer.Option("--out", help="An .html file")],
    home: HomeDir = _HOME,
    videos: Annotated[str | None, typer.Option("--videos", help="Where the videos of the latest prepare are")] = None,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Instead of the recipe of the latest prepare")] = None,
    changes: Changes = None,
) -> None:
    """The data card: funnel, scores with their thresholds, what other thresholds would keep, clips beside each line."""
    from flows.commands.card import write_card
    from flows.home import Home

    place = Home.open(home)
    _say(write_card(place, out, data_settings(place, recipe, changes), videos))


@app.command()
def shots(
    out: Annotated[Path, typer.Option("--out", help="A folder for the files and their list")],
    home: HomeDir = _HOME,
    videos: Annotated[Path | None, typer.Option("--videos", help="Where the videos of the latest prepare are")] = None,
    crf: Annotated[int, typer.Option(min=0, max=51, help="x264's rate factor: lower is better and larger")] = 23,
    preset: Annotated[str, typer.Option(help="x264's preset: slower is smaller")] = "superfast",
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 is one a core")] = 0,
) -> None:
    """The kept shots as video files: whole, at the size and rate of their source."""
    from data_prep.shot_files import Encoding
    from flows.commands.shots import export_shots
    from flows.home import Home

    _say(export_shots(Home.open(home), out, videos, Encoding(crf=crf, preset=preset), workers))


def _say(text: str) -> None:
    """Print a text as it is: not wrapped, not colored."""
    sys.stdout.write(f"{text}\n")


def _tell(value: Any, as_json: bool) -> None:
    _out.print_json(json.dumps(value, default=str)) if as_json else _out.print("\n".join(map(str, value)), markup=False)


def _leave(sentence: str, code: int) -> None:
    if sentence:
        _err.print(sentence, style="bold", markup=False, soft_wrap=True)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of libraries must not keep an ended command alive: Prefect's wait for a server that is gone.
    os._exit(code)


if __name__ == "__main__":
    main()
