"""`vidgen doctor`: what works here, what is missing, and what to do about it."""

import json
from collections import Counter

from flows.checks._finding import Finding, State, Subject
from flows.commands.text import aligned
from vidgen_core import discovery

__all__ = ["examine", "told"]


def examine(subject: Subject) -> list[Finding]:
    """Everything that the files of `flows/checks` find."""
    checks = [discovery.load("flows.checks", name) for name in discovery.names("flows.checks")]
    return [finding for one in checks for finding in one.check(subject)]


def told(findings: list[Finding], *, as_json: bool) -> str:
    """The report as text; what needs a move comes last, where it is seen."""
    if as_json:
        return json.dumps([one.model_dump(mode="json") for one in findings], indent=1)
    lines = [aligned([[one.state.value, one.what, one.found] for one in findings])]
    counts = Counter(one.state for one in findings)
    lines.append(", ".join(f"{counts[state]} {state.value}" for state in State if counts[state]))
    lines += [f"{one.what}: {one.move}." for one in findings if one.move]
    return "\n".join(lines)
