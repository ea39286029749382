"""Changing what is champion: by the gate, back again, and by a takedown. Each is one entry of the journal."""

import time
from collections.abc import Sequence

from vidgen_core.errors import VidgenError
from vidgen_core.registry.gate import Decision, Evidence, decide
from vidgen_core.registry.journal import CHALLENGER, CHAMPION, Entry, State, append, settle
from vidgen_core.registry.models import EVIDENCE_TAG, Version, evidence_of, keep_evidence, version_of
from vidgen_core.registry.tracking import client

__all__ = ["block", "challenge", "promote", "rival_of", "rollback"]


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
        decision, compared = _decided(uri, version, evidence, state, key)
        entry = Entry(
            action="promote" if decision.promoted else "refuse",
            to=version.version,
            seen=state.champion,
            who=who,
            time=time.time(),
            reasons=(*decision.reasons, *decision.notes),
            evidence={
                "evidence": key, "run": evidence.run, "model": version.model, "release": version.release,
                "compared_with": "", "compared_by": "", **compared,
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


def rival_of(uri: str, name: str) -> tuple[Version | None, str]:
    """Whom a candidate is compared with, and why it is not simply the champion, in a sentence; "" where it is."""
    state = settle(client(uri), name)
    rival, champion = _rival(uri, name, state), state.champion
    if champion is None:
        return None, "There is no champion yet."
    if champion not in state.blocked:
        return rival, ""
    instead = "and there is none before it" if rival is None else f"so version {rival.version} stands for it"
    return rival, f"The champion, version {champion}, must not be used, {instead}: {state.blocked[champion]}"


def _rival(uri: str, name: str, state: State) -> Version | None:
    return None if state.rival is None else version_of(uri, f"{name}/{state.rival}")


def _decided(uri: str, version: Version, evidence: Evidence, state: State, key: str) -> tuple[Decision, dict[str, str]]:
    """The gate's decision; and for the journal whom it compared with, and which evidence has the numbers of it."""
    if version.version in state.blocked:
        return Decision(promoted=False, reasons=(f"It is blocked: {state.blocked[version.version]}",)), {}
    rival = _rival(uri, version.name, state)
    if rival is None:
        return decide(evidence, ()), {}
    met = evidence.rival if evidence.rival is not None and evidence.rival.model == rival.model else None
    theirs = [] if met is None or met.evaluation is None else [met.evaluation]
    by = key if theirs else rival.tags.get(EVIDENCE_TAG, "")
    try:
        kept = evidence_of(uri, rival)
    except VidgenError:
        if not theirs:
            raise
        kept = None
    if kept is not None:
        theirs.append(kept.evaluation)
    decision = decide(evidence, theirs, () if met is None else met.notes)
    return decision, {"compared_with": str(rival.version), "compared_by": by}
