"""Installed packages against what vidgen asks for, and Python itself."""

import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from flows.checks._finding import Finding, State, Subject

__all__ = ["check", "judge"]


def check(_subject: Subject) -> Iterator[Finding]:
    """Python, and every requirement of the installed vidgen."""
    version = ".".join(map(str, sys.version_info[:3]))
    old = sys.version_info < (3, 11)
    move = "Make the virtual environment with Python 3.11 or newer" if old else ""
    yield Finding(what="python", state=State.BAD if old else State.GOOD, found=version, move=move)
    try:
        asked = [Requirement(line) for line in metadata.requires("vidgen") or []]
    except metadata.PackageNotFoundError:
        yield Finding(what="packages", state=State.DOUBTFUL, found="vidgen is not installed", move="pip install -e .")
        return
    complaints = [one for requirement in asked if (one := judge(requirement))]
    yield from complaints
    if not complaints:
        yield Finding(what="packages", state=State.GOOD, found=f"all of {len(asked)} requirements hold")


def judge(requirement: Requirement) -> Finding | None:
    """What is wrong with one package; an extra that is not installed is nobody's fault."""
    optional = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
    pip = f'pip install -c constraints.txt "{requirement.name}{requirement.specifier}"'
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        if optional:
            return None
        return Finding(what=requirement.name, state=State.BAD, found="not installed", move=pip)
    if requirement.specifier.contains(found, prereleases=True):
        return None
    state = State.DOUBTFUL if optional else State.BAD
    return Finding(what=requirement.name, state=state, found=f"{found}, allowed {requirement.specifier}", move=pip)
