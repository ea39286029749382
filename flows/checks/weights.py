"""Files that the recipe names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.checks._finding import Finding, State, Subject

__all__ = ["check"]

_KEYS = ("weights", "path")


def check(subject: Subject) -> Iterator[Finding]:
    """Every file of weights of the recipe; what is named and missing ends a run."""
    named = list(_named(subject.recipe.model_dump(mode="json"), ""))
    for key, name in named:
        if Path(name).expanduser().exists():
            yield Finding(what=key, state=State.GOOD, found=name)
        else:
            yield Finding(what=key, state=State.BAD, found=f"{name} is not there", move=f"Get it, or set {key}=FILE")
    if not named:
        yield Finding(what="weights", state=State.ABSENT, found="the recipe names none")


def _named(value: Any, at: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _named(inner, f"{at}.{key}" if at else key)
    elif isinstance(value, str) and value and at.rpartition(".")[2] in _KEYS:
        yield at, value
