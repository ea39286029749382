"""The `vidgen` command: a thin page over recipes. Exit code 0 only if the work was done."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from flows.commands.text import say
from flows.data_commands import data_app
from flows.encoder_commands import encoder_app
from flows.failures import MISTAKE_EXIT, StageCrashedError, disk_full, is_disk_full
from flows.options import HOME, RECIPE, VIDEOS, AsJson, Changes, HomeDir, Jobs, Ray, Recipe, TablesAt, Videos
from flows.sample_command import sample_app
from flows.service_commands import service_app
from flows.stopping import stop
from vidgen_core.errors import VidgenError

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
videos_app = typer.Typer(no_args_is_help=True, help="Sample videos.")
app.add_typer(videos_app, name="videos")
app.add_typer(encoder_app, name="encoder")
app.add_typer(data_app)
app.add_typer(service_app)
app.add_typer(sample_app)
_err = Console(stderr=True, highlight=False)


def main() -> None:
    """The console script."""
    try:
        # An interrupt and an exit come back as the code that a shell expects of them, and not as exceptions.
        code = app(standalone_mode=False) or 0
        if code == 128 + signal.SIGINT:
            raise KeyboardInterrupt
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
    _leave("", code)


def _sentence(error: Exception) -> str | None:
    """What to tell of a mistake of the user's or a full disk; None for anything else."""
    if isinstance(error, VidgenError):
        return str(error)
    if is_disk_full(error):
        named = getattr(error, "filename", None)
        return str(disk_full(Path(str(named)) if named else None))
    # The command line's own complaints, such as an unknown option.
    return str(getattr(error, "message", error)) if type(error).__module__.startswith(("click", "typer")) else None


@app.command()
def run(
    recipe: Recipe = RECIPE, videos: Videos = VIDEOS, home: HomeDir = HOME, tables: TablesAt = None,
    changes: Changes = None, ray: Ray = "",
) -> None:  # fmt: skip
    """The whole line: from videos to a promoted model."""
    _launch("", recipe, videos, home, changes, ray, tables=tables)


@app.command()
def prepare(
    recipe: Recipe = RECIPE, videos: Videos = VIDEOS, home: HomeDir = HOME, tables: TablesAt = None,
    changes: Changes = None, ray: Ray = "",
) -> None:  # fmt: skip
    """Videos to scored, captioned clips."""
    _launch("prepare", recipe, videos, home, changes, ray, tables=tables)


@app.command()
def latents(  # noqa: PLR0913 - typer makes an option of each
    context: typer.Context,
    recipe: Recipe = RECIPE,
    videos: Videos = VIDEOS,
    home: HomeDir = HOME,
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
        _only_with("--verify", context, "share", "seed", "tolerance", "as_json")
        _launch("latents", recipe, videos, home, changes, ray)
        return
    from flows.commands.verify import mismatch, told
    from flows.commands.verify import verify as compare
    from flows.home import Home

    place = Home.open(home)
    results = compare(place, share=share, seed=seed, tolerance=tolerance)
    say(told(results, as_json=as_json))
    if (wrong := mismatch(place, results)) is not None:
        raise wrong


@app.command()
def train(  # noqa: PLR0913 - the options of a command
    context: typer.Context,
    recipe: Recipe = RECIPE,
    videos: Videos = VIDEOS,
    home: HomeDir = HOME,
    changes: Changes = None,
    ray: Ray = "",
    prove_resume: Annotated[bool, typer.Option("--prove-resume", help="Prove instead that it resumes exactly")] = False,
    as_json: AsJson = False,
) -> None:
    """Latents to a generator; or the proof that a killed training goes on as if nothing had happened."""
    if not prove_resume:
        _only_with("--prove-resume", context, "as_json")
        _launch("train", recipe, videos, home, changes, ray)
        return
    from flows.commands.launch import spec_of
    from flows.commands.prove import prove_resume as prove

    text, passed = prove(spec_of("train", recipe, videos, home, changes or [], ray=ray, jobs=""), as_json=as_json)
    say(text)
    if not passed:
        raise typer.Exit(1)


@app.command()
def average(
    length: Annotated[float, typer.Option("--length", help="Relative length of the average, above 0 and up to 0.288")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the generator")],
    home: HomeDir = HOME,
    register: Annotated[bool, typer.Option("--register", help="Register it too, as the model's challenger")] = False,
) -> None:
    """The generator of the latest training with an average of its weights of another length (training.ema_lengths)."""
    from flows.commands.average import write_average
    from flows.home import Home

    say(write_average(Home.open(home), length, out, registered=register))


@app.command()
def evaluate(recipe: Recipe = RECIPE, videos: Videos = VIDEOS, home: HomeDir = HOME, changes: Changes = None) -> None:
    """Measure the generator."""
    _launch("evaluate", recipe, videos, home, changes)


@app.command()
def release(  # noqa: PLR0913 - the options of a command
    recipe: Recipe = RECIPE,
    videos: Videos = VIDEOS,
    home: HomeDir = HOME,
    changes: Changes = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Make the previous champion the champion again")] = False,
    copy_to: Annotated[
        str, typer.Option("--copy-to", help="Copy a version to another home or http://HOST:5000, gated there")
    ] = "",
    model: Annotated[str, typer.Option("--model", help="With these two: NAME, for a copy NAME@alias or NAME/3")] = "",
) -> None:
    """Register the generator; the gate decides whether it becomes the champion."""
    if rollback and copy_to:
        raise VidgenError("Two things are asked for at once", got="--rollback, --copy-to", allowed="one of them")
    if not (rollback or copy_to):
        if model:
            raise VidgenError("--model goes with --rollback or --copy-to", got=model)
        _launch("release", recipe, videos, home, changes)
        return
    from flows.commands.release import copy_release, roll_back
    from flows.home import Home
    from flows.recipes.recipe import load

    name = model or load(recipe, changes or []).model
    say(roll_back(Home.open(home), name) if rollback else copy_release(Home.open(home), name, copy_to))


@app.command()
def submit(  # noqa: PLR0913 - the options of a command
    jobs: Jobs,
    stage: Annotated[str, typer.Argument(help="prepare, latents, train, evaluate or release; all without it")] = "",
    recipe: Recipe = RECIPE,
    videos: Videos = VIDEOS,
    home: HomeDir = HOME,
    changes: Changes = None,
) -> None:
    """The same as jobs of a Ray cluster that has the home, see docs/cluster.md; given again, it watches what runs."""
    from flows.spec import STAGES

    if stage not in ("", *STAGES):
        raise VidgenError("There is no such stage", got=stage, allowed=", ".join(STAGES))
    _launch(stage, recipe, videos, home, changes, jobs=jobs)


@app.command()
def compare(  # noqa: PLR0913 - an option each
    recipe: Recipe = RECIPE,
    videos: Videos = VIDEOS,
    home: HomeDir = HOME,
    changes: Changes = None,
    ray: Ray = "",
    families: Annotated[str, typer.Option(help="flow_matching:tiny,gan:tiny; all there are without it")] = "",
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Training of each; 10 if nothing is said")] = None,
    token_steps: Annotated[float | None, typer.Option(min=1, help="Or steps x samples x places of each")] = None,
    write: Annotated[Path | None, typer.Option("--write", help="A .md file for the table")] = None,
    as_json: AsJson = False,
) -> None:
    """Families side by side: the same clips, budget and metrics. Interrupted, the same command goes on."""
    from flows.commands.compare import comparison_of, markdown, run_comparison

    chosen = comparison_of(
        recipe, videos, home, changes or [], families=families, minutes=minutes, token_steps=token_steps, ray=ray
    )
    table = run_comparison(chosen, changes or [], write=write)
    say(table.model_dump_json(indent=1) if as_json else markdown(table))
    if any(row.failed for row in table.rows):
        raise typer.Exit(1)


@app.command()
def replay(
    records: Annotated[Path, typer.Argument(help="The .samples.json file beside a page of the reports")],
    out: Annotated[Path, typer.Option("--out", help="An .mp4 file")],
    number: Annotated[list[int], typer.Option("--number", help="Which of them, from 0; may be given several times")],
    model: Annotated[str, typer.Option("--model", help="The version that drew them")] = "shapes@champion",
    home: HomeDir = HOME,
) -> None:
    """Draw samples of an evaluation again from their records."""
    from flows.commands.replay import replay_samples
    from flows.home import Home

    say(replay_samples(Home.open(home), model, records, number, out))


@videos_app.command("make")
def videos_make(directory: Path, count: Annotated[int, typer.Option(min=1)] = 200, seed: int = 0) -> None:
    """Make sample videos of moving shapes, with captions and truth beside them."""
    from data_prep.samples import make

    made = make(directory, count=count, seed=seed)
    say(f"{len(made.files)} videos in {directory}, {len(made.broken)} of them broken on purpose")


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


def _only_with(other: str, context: typer.Context, *names: str) -> None:
    """Refuse options that mean nothing without another one, rather than pass over them."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise VidgenError(f"--{name.removeprefix('as_')} goes with {other}", got=f"--{name.removeprefix('as_')}")


def _launch(  # noqa: PLR0913 - the options of its commands
    stage: str, recipe: str, videos: str, home_dir: Path, changes: list[str] | None, ray: str = "", jobs: str = "",
    tables: str | None = None,
) -> None:  # fmt: skip
    """Run one stage, or all of them, under a Prefect server of our own."""
    from flows.commands.launch import run_spec, spec_of

    spec = spec_of(stage, recipe, videos, home_dir, changes or [], ray=ray, jobs=jobs, tables=tables)
    run_spec(spec, stage)


def _tell(value: Any, as_json: bool) -> None:
    say(json.dumps(value, indent=1) if as_json else "\n".join(map(str, value)))


def _leave(sentence: str, code: int) -> None:
    if sentence:
        _err.print(sentence, style="bold", markup=False, soft_wrap=True)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of libraries must not keep an ended command alive: Prefect's wait for a server that is gone.
    os._exit(code)


if __name__ == "__main__":
    main()
