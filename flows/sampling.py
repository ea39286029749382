"""Videos from a registered model, into a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.home import Home
from flows.wishes import Wish, drawn_around
from vidgen_core.applications.complete import Drawing
from vidgen_core.applications.generator import Generator, check_prompt
from vidgen_core.applications.movie import asked_for, movie
from vidgen_core.outputs import check_out
from vidgen_core.registry.models import fetch

__all__ = ["draw"]


def draw(  # noqa: PLR0913 - what, from which model, where to, and how
    home: Home,
    model: str,
    prompts: Sequence[str],
    out: Path,
    *,
    seed: int,
    changes: Mapping[str, Any],
    conditions: Sequence[str],
    wish: Wish | None = None,
    blocked_too: bool = False,
) -> list[str]:
    """Write an mp4 of one video a prompt, side by side; small videos are enlarged without smoothing.

    Args:
        home: Whose registry.
        model: `name@alias` or `name/version`.
        prompts: What to show.
        out: An .mp4 file.
        seed: Of the noise.
        changes: Fields of the model's `Sampling`; None leaves one as it is.
        conditions: Scores to ask for besides the model's own, as "motion=80%".
        wish: What to draw around; nothing if None.
        blocked_too: Also from a version that learned from what was taken down.

    Returns:
        What the user should know, in sentences.

    Raises:
        VidgenError: A prompt, the model or the file will not do.

    """
    wish = wish or Wish()
    task = wish.task
    for prompt in prompts:
        check_prompt(prompt)
    check_out(out, (".mp4",), "A video")
    is_folder = (Path(model) / "generator.json").exists()
    fetched = Path(model) if is_folder else fetch(home.mlflow_uri, model, home.cache_dir, blocked_too=blocked_too)
    generator = Generator.load(fetched)
    sampling = asked_for(generator, changes, conditions)
    if task:
        videos, notes = drawn_around(generator, wish, prompts, Drawing(seed, sampling, wish.rounds))
    else:
        videos, notes = generator.videos(prompts, seed=seed, sampling=sampling), []
    out.write_bytes(movie(videos, generator.card.frame_rate))
    return notes
