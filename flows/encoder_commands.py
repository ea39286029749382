"""The part of the `vidgen` command that trains video encoders."""

import json
from typing import Annotated

import typer

from flows.commands.text import say
from flows.options import HOME, AsJson, Changes, HomeDir

__all__ = ["encoder_app"]

encoder_app = typer.Typer(no_args_is_help=True, help="Video encoders: what metrics and filters look through.")


@encoder_app.command("train")
def train(
    encoder: Annotated[str, typer.Argument(help="NAME or NAME:SIZE, as i3d:tiny; see `vidgen families`")],
    home: HomeDir = HOME,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Train an encoder on the clips of a home, measure it on those held out, and register it as encoder-NAME."""
    from flows.encoding import encoder_recipe, train_encoder
    from flows.home import Home

    recipe, place = encoder_recipe(encoder, changes or []), Home.open(home)
    place.keep_named_registry()
    with place.lock():
        made = train_encoder(place, recipe)
    told = {
        "version": f"{made.version.name}/{made.version.version}", "alias": made.alias, "folder": str(made.folder),
        "figures": made.figures, "not_run": made.not_run,
    }  # fmt: skip
    figures = ", ".join(f"{name} {value:.3f}" for name, value in made.figures.items())
    lines = [f"{told['version']} @{made.alias}: {figures}", str(made.folder), *made.not_run.values()]
    say(json.dumps(told, indent=1) if as_json else "\n".join(lines))
