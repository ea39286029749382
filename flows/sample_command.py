"""`vidgen sample`: videos of prompts, from nothing or around what is given."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.text import say
from flows.options import HOME, HomeDir

__all__ = ["sample_app"]

sample_app = typer.Typer()


@sample_app.command()
def sample(  # noqa: PLR0913 - an option each
    prompt: Annotated[list[str], typer.Option("--prompt", help="What to show; may be given several times")],
    out: Annotated[Path, typer.Option("--out", help="An .mp4 file")],
    until: Annotated[Path | None, typer.Argument(help="With --interpolate: the last picture")] = None,
    model: Annotated[str, typer.Option("--model", help="name@alias, name/version, or a folder")] = "shapes@champion",
    home: HomeDir = HOME,
    seed: int = 0,
    steps: Annotated[int | None, typer.Option(min=1, max=1000)] = None,
    guidance: float | None = None,
    negative: Annotated[str | None, typer.Option(help="What to lead away from")] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option("--condition", help="A score to ask for: motion=80% (a rank), motion=1.5, motion=null"),
    ] = None,
    image: Annotated[Path | None, typer.Option("--image", help="The first frame: a picture begins to move")] = None,
    extend: Annotated[Path | None, typer.Option("--extend", help="A video that is to go on")] = None,
    frames: Annotated[int | None, typer.Option(min=2, help="With --extend: frames of the result")] = None,
    overlap: Annotated[int | None, typer.Option(min=1, help="With --extend: frames that a window knows")] = None,
    interpolate: Annotated[
        Path | None, typer.Option("--interpolate", help="The first of two pictures, or a video whose key frames stay")
    ] = None,
    every: Annotated[int, typer.Option(min=2, help="With --interpolate VIDEO: groups between key frames")] = 2,
    inpaint: Annotated[Path | None, typer.Option("--inpaint", help="A video of which a part is drawn anew")] = None,
    mask: Annotated[str | None, typer.Option("--mask", help="That part: x,y,w,h or a picture, white there")] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="With what is given: times that each step is taken")] = 1,
    blocked_too: Annotated[bool, typer.Option("--blocked-too", help="Even if it saw what was taken down")] = False,
) -> None:
    """Draw videos from a registered model; several prompts stand side by side."""
    from flows.home import Home
    from flows.sampling import draw
    from flows.wishes import Wish

    wish = Wish(
        image=image, extend=extend, frames=frames, overlap=overlap, interpolate=interpolate, until=until, every=every,
        inpaint=inpaint, mask=mask, rounds=rounds,
    )  # fmt: skip
    changes = {"steps": steps, "guidance": guidance, "negative": negative}
    notes = draw(
        Home.open(home), model, prompt, out, seed=seed, changes=changes, conditions=condition or [], wish=wish,
        blocked_too=blocked_too,
    )  # fmt: skip
    say("\n".join([*notes, str(out)]))
