"""The `vidgen` command: a thin page over recipes. Exit code 0 only if the work was done."""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from flows.failures import MISTAKE_EXIT, StageCrashedError, disk_full, is_disk_full
from vidgen_core.errors import VidgenError

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
videos_app = typer.Typer(no_args_is_help=True, help="Sample videos.")
app.add_typer(videos_app, name="videos")
_out, _err = Console(highlight=False), Console(stderr=True, highlight=False)

RecipeName = Annotated[str, typer.Option("--recipe", help="file.function, see `vidgen recipes`")]
Videos = Annotated[Path, typer.Option("--videos", help="Folder of videos")]
HomeDir = Annotated[Path, typer.Option("--home", help="Where everything is kept")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change the recipe: data.select.min_motion=0.2")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]

_LEAVE_AFTER_S = 5.0
_HOME, _VIDEOS, _RECIPE = Path(".vidgen"), Path(".vidgen/videos"), "shapes.demo"


def main() -> None:
    """The console script."""
    try:
        # An interrupt comes back as the code that a shell expects of it, and not as an exception.
        if app(standalone_mode=False) == 128 + signal.SIGINT:
            raise KeyboardInterrupt
    except typer.Exit as error:
        _leave("", error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _leave("Stopped. The same command goes on from here.", _stop.code)
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
def run(recipe: RecipeName = _RECIPE, videos: Videos = _VIDEOS, home: HomeDir = _HOME, changes: Changes = None) -> None:
    """The whole line: from videos to a promoted model."""
    _launch("", recipe, videos, home, changes)


@app.command()
def prepare(
    recipe: RecipeName = _RECIPE, videos: Videos = _VIDEOS, home: HomeDir = _HOME, changes: Changes = None
) -> None:
    """Videos to scored, captioned clips."""
    _launch("prepare", recipe, videos, home, changes)


@app.command()
def latents(
    recipe: RecipeName = _RECIPE, videos: Videos = _VIDEOS, home: HomeDir = _HOME, changes: Changes = None
) -> None:
    """Clips to latents, captions to vectors."""
    _launch("latents", recipe, videos, home, changes)


@app.command()
def train(
    recipe: RecipeName = _RECIPE, videos: Videos = _VIDEOS, home: HomeDir = _HOME, changes: Changes = None
) -> None:
    """Latents to a generator."""
    _launch("train", recipe, videos, home, changes)


@app.command()
def evaluate(
    recipe: RecipeName = _RECIPE, videos: Videos = _VIDEOS, home: HomeDir = _HOME, changes: Changes = None
) -> None:
    """Measure the generator."""
    _launch("evaluate", recipe, videos, home, changes)


@app.command()
def release(
    recipe: RecipeName = _RECIPE, videos: Videos = _VIDEOS, home: HomeDir = _HOME, changes: Changes = None
) -> None:
    """Register the generator; the gate decides whether it becomes the champion."""
    _launch("release", recipe, videos, home, changes)


@app.command()
def sample(
    prompt: Annotated[list[str], typer.Option("--prompt", help="What to show; may be given several times")],
    out: Annotated[Path, typer.Option("--out", help="An .mp4 file")],
    model: Annotated[str, typer.Option("--model", help="name@alias or name/version")] = "shapes@champion",
    home: HomeDir = _HOME,
    seed: int = 0,
    steps: Annotated[int | None, typer.Option(min=1, max=1000)] = None,
    guidance: float | None = None,
) -> None:
    """Draw videos from a registered model; several prompts stand side by side."""
    from flows.home import Home
    from flows.sampling import draw

    draw(Home.open(home), model, prompt, out, seed=seed, steps=steps, guidance=guidance)
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


@app.command()
def query(sql: str, home: HomeDir = _HOME, as_json: AsJson = False) -> None:
    """SQL over the tables, for example: select reason, count(*) from rejects group by 1."""
    from data_prep.tables import Tables
    from flows.home import Home

    rows = Tables(Home.open(home).tables_dir).query(sql).to_pylist()
    _tell(rows if as_json else [str(row) for row in rows], as_json)


def _launch(stage: str, recipe: str, videos: Path, home_dir: Path, changes: list[str] | None) -> None:
    """Run one stage, or all of them, under a Prefect server of our own."""
    from data_prep.sources import list_files
    from flows.embedded import prefect_server
    from flows.home import Home
    from flows.recipes.recipe import load
    from flows.show import table
    from flows.spec import Spec

    chosen = load(recipe, changes or [])
    list_files(videos)
    home = Home.open(home_dir)
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, _stop)
    spec = Spec(stage=stage or "prepare", recipe=chosen, videos=videos.resolve(), home_dir=home.root)
    with home.lock(), prefect_server(home):
        from flows.pipeline import STAGE_FLOWS, pipeline

        results = [STAGE_FLOWS[stage](spec)] if stage else pipeline(spec)
    _out.print(table(results))


class _Stop:
    """Stop the stage at once, and ourselves soon: a client of Prefect may wait for its server without an end.

    Leaving is safe at any time, because the guards end all that we started when we are gone.
    """

    code = 128 + signal.SIGINT

    def __call__(self, number: int, _frame: object) -> None:
        self.code = 128 + number
        timer = threading.Timer(_LEAVE_AFTER_S, os._exit, (self.code,))
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt


_stop = _Stop()


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
