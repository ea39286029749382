"""What a check is told, and what it finds."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from flows.recipes.recipe import Recipe
from vidgen_core.frozen import Frozen

__all__ = ["Finding", "State", "Subject"]


class State(StrEnum):
    """How a thing is."""

    GOOD = "good"
    ABSENT = "absent"
    """Not there, and nothing here needs it."""
    DOUBTFUL = "doubtful"
    """A run may work, or slowly."""
    BAD = "bad"
    """A run would fail."""


class Subject(Frozen):
    """What is examined.

    Args:
        home: Where everything is kept, or will be.
        videos: The folder of videos, or a place such as s3://bucket/videos.
        recipe: The run that is wanted.
        ray: HOST:PORT of the Ray cluster to work on; "" for none.
        jobs: Address of a Ray job server; "" for none.
        environment: Variables, as the commands would see them.

    """

    home: Path
    videos: str
    recipe: Recipe
    ray: str = ""
    jobs: str = ""
    environment: Mapping[str, str] = {}


class Finding(Frozen):
    """One line of the doctor's report.

    Args:
        what: The thing, in a few words.
        state: How it is.
        found: What was seen.
        move: The next thing to do or to type; empty where all is well.

    """

    what: str
    state: State
    found: str
    move: str = ""
