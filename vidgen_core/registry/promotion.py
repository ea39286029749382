"""Changing what is champion: by the gate, back again, and by a takedown. Each is one entry of the journal."""

import time
from collections.abc import Sequence

from vidgen_core.errors import VidgenError
from vidgen_core.registry.gate import Decision, Evidence, decide
from vidgen_core.registry.journal import CHALLENGER, CHAMPION, Entry, State, append, settle
from vidgen_core.registry.models import Version, evidence_of, keep_evidence, version_of
from vidgen_core.registry.tracking import client

__all__ = ["block", "challenge", "promote", "rollback"]


def promote(uri: str, version: Version, evidence: Evidence, *, who: str) -> Decision:
    """Let the gate decide; a refused version becomes `challenger`. Promoting the champion again changes nothing.

    When somebody else's promotion came in between, the gate is asked again, with that champion.

    Args:
        uri: The registry.
        version: The candidate.
        evidence: What is known of it; kept with it.
        who: The account that asks.

    """
    store = client(uri)
    key = keep_evidence(store, version, evidence)
    while True:
        state = settle(store, version.name)
        if version.version == state.champion and version.version not in state.blocked:
            return Decision(promoted=True, reasons=("It is the champion already.",))
        decision = _decided(uri, version, evidence, state)
        entry = Entry(
            action="promote" if decision.promoted else "refuse",
            to=version.version,
            seen=state.champion,
            who=who,
            time=time.time(),
            reasons=(*decision.reasons, *decision.notes),
            evidence={
                "evidence": key, "run": evidence.run, "model": version.model, "release": version.release,
                "compared_with": "" if (rival := _rival(state)) is None else str(rival),
            },
        )  # fmt: skip
        number = append(store, version.name, entry)
        if number in settle(store, version.name).counted:
            return decision


def challenge(uri: str, version: Version, why: str, *, who: str) -> str:
    """Make a version that nothing has measured the challenger, unless it is the champion; its alias then."""
    store = client(uri)
    state = settle(store, version.name)
    if version.version == state.champion:
        return CHAMPION
    entry = Entry(
        action="refuse", to=version.version, seen=state.champion, who=who, time=time.time(), reasons=(why,),
        evidence={"model": version.model, "release": version.release},
    )  # fmt: skip
    append(store, version.name, entry)
    settle(store, version.name)
    return CHALLENGER


def rollback(uri: str, name: str, *, who: str) -> tuple[int, int]:
    """Make the previous champion the champion again; both versions' numbers, from and to.

    Raises:
        VidgenError: There is no previous champion that may be used; or somebody changed the champion meanwhile.

    """
    store = client(uri)
    state = settle(store, name)
    before, target = state.champion, state.previous
    if before is None or target is None:
        raise VidgenError(
            f"{name} has no previous champion to go back to",
            got="champions so far: " + (", ".join(map(str, state.champions)) or "none"),
            allowed="an earlier champion that saw nothing that was taken down",
            move="Train another one: vidgen run",
        )
    reason = f"Rolled back from version {before} to version {target}."
    entry = Entry(action="rollback", to=target, seen=before, who=who, time=time.time(), reasons=(reason,))
    if append(store, name, entry) not in (state := settle(store, name)).counted:
        raise VidgenError(
            f"The champion of {name} was changed by somebody else meanwhile, so nothing was rolled back",
            got=f"version {state.champion}, it was {before}",
            move="Look at it, and give the command again if it still is to go",
        )
    return before, target


def block(uri: str, versions: Sequence[Version], why: str, *, who: str) -> list[Version]:
    """Let versions not be used any more: `fetch` and the gate refuse them. Those that were not blocked before."""
    store, fresh = client(uri), []
    for version in versions:
        if version.version in settle(store, version.name).blocked:
            continue
        entry = Entry(
            action="block", to=version.version, seen=None, who=who, time=time.time(), reasons=(why,),
            evidence={"model": version.model, "release": version.release},
        )  # fmt: skip
        append(store, version.name, entry)
        settle(store, version.name)
        fresh.append(version)
    return fresh


def _rival(state: State) -> int | None:
    """Whom a candidate is compared with: the champion, or the one before where that is blocked."""
    return state.champion if state.champion not in state.blocked else state.previous


def _decided(uri: str, version: Version, evidence: Evidence, state: State) -> Decision:
    if version.version in state.blocked:
        return Decision(promoted=False, reasons=(f"It is blocked: {state.blocked[version.version]}",))
    rival = _rival(state)
    theirs = None if rival is None else evidence_of(uri, version_of(uri, f"{version.name}/{rival}"))
    return decide(evidence, None if theirs is None else theirs.evaluation)
