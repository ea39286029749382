"""What `vidgen run` and its stages are asked, checked before anything is started."""

from collections.abc import Sequence
from pathlib import Path

from data_prep.sources import list_files
from flows.cluster import check_address
from flows.home import Home
from flows.recipes.recipe import load
from flows.spec import Spec

__all__ = ["spec_of"]


def spec_of(stage: str, recipe: str, videos: Path, home: Path, changes: Sequence[str], ray: str, jobs: str) -> Spec:
    """The first stage to run; `stage` is "" for all of them.

    Raises:
        VidgenError: The recipe, the videos, the home or the cluster's address cannot be.

    """
    chosen = load(recipe, changes)
    if ray:
        check_address(ray)
    list_files(videos)
    root = Home.open(home).root
    first = stage or "prepare"
    return Spec(stage=first, recipe=chosen, videos=videos.resolve(), home_dir=root, ray=ray, jobs=jobs)
