"""Options that several commands share, and what they are when nothing is said."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["HOME", "RECIPE", "VIDEOS", "AsJson", "Changes", "HomeDir", "Jobs", "Ray", "Recipe", "TablesAt", "Videos"]

Recipe = Annotated[str, typer.Option("--recipe", help="file.function, see `vidgen recipes`")]
Videos = Annotated[str, typer.Option("--videos", help="Folder of videos, or a place such as s3://bucket/videos")]
TablesAt = Annotated[str | None, typer.Option("--tables", help="Put the tables there, once: s3://bucket/tables")]
HomeDir = Annotated[Path, typer.Option("--home", help="Where everything is kept")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change the recipe: data.select.min_motion=0.2")]
Ray = Annotated[str, typer.Option("--ray", help="HOST:PORT of the Ray cluster to work on, see docs/cluster.md")]
Jobs = Annotated[
    str, typer.Option("--jobs", help="A Ray cluster's job server: http://HOST:8265, or kuberay://NAMESPACE/NAME")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]

HOME, VIDEOS, RECIPE = Path(".vidgen"), ".vidgen/videos", "shapes.demo"
