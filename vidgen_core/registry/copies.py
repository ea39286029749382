"""A version from one registry into another, as from development to production: its bytes, tags and journal."""

import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from vidgen_core.errors import VidgenError
from vidgen_core.registry.gate import Decision
from vidgen_core.registry.journal import append, read
from vidgen_core.registry.models import (
    COPIES_TAG,
    EVIDENCE_TAG,
    MODEL_TAG,
    Version,
    evidence_of,
    fetch,
    register,
    version_of,
)
from vidgen_core.registry.promotion import block, promote
from vidgen_core.registry.tracking import Tracker, client
from vidgen_core.registry.trial import drawn

__all__ = ["copy_version"]

_RUN_KEY = "vidgen.run_key"
# What a copy does not have in common with its original.
_OWN_TAGS = (EVIDENCE_TAG, COPIES_TAG)


def copy_version(uri: str, model: str, target: str, *, artifacts: Path | None, who: str) -> tuple[Version, Decision]:
    """Copy a version and let the gate decide whether it becomes champion there, by the evidence that it brings.

    Given again, it copies nothing twice. A version that was blocked since is not copied: its copy is blocked too.

    Args:
        uri, target: Registry that it comes from, and that it goes to.
        model: `name@alias` or `name/number`.
        artifacts: Where a registry that is a database file keeps its files; None where a server knows it.
        who: The account that asks.

    Raises:
        VidgenError: It is blocked, was never asked at the gate, or the bytes are not those that were registered.

    """
    found = version_of(uri, model)
    if found.blocked:
        _block_copy(found, target, who)
    evidence = evidence_of(uri, found)
    if evidence is None:
        raise VidgenError(f"{found} was never measured", move="Ask the gate first: vidgen release")
    tracker = Tracker.open(
        target, experiment=found.name, run_key=found.tags.get(_RUN_KEY, found.model), artifacts=artifacts
    )
    with tempfile.TemporaryDirectory() as folder:
        generator_dir = fetch(uri, model, Path(folder))
        tags = {
            name: value for name, value in found.tags.items() if name.startswith("vidgen.") and name not in _OWN_TAGS
        }
        origin = f"{_public(uri)} {found.name}/{found.version}"
        copy = register(tracker, found.name, generator_dir, model=found.model, tags={**tags, "vidgen.origin": origin})
    tracker.checkpoints(copy.logged_model, *_figures(uri, found))
    _note_copy(uri, found, target)
    store = client(target)
    there = {(entry.origin, entry.time) for entry in read(store, copy.name)}
    for entry in read(client(uri), found.name):
        told = f"{origin} #{entry.number}"
        if entry.to == found.version and not entry.origin and (told, entry.time) not in there:
            append(store, copy.name, entry.model_copy(update={"to": copy.version, "origin": told}))
    decision = promote(target, copy, evidence.model_copy(update={"drawn": drawn(target, copy)}), who=who)
    tracker.finish()
    return version_of(target, f"{copy.name}/{copy.version}"), decision


def _block_copy(found: Version, target: str, who: str) -> None:
    store = client(target)
    known = [
        one for one in store.search_model_versions(f"name = '{found.name}'") if one.tags.get(MODEL_TAG) == found.model
    ]
    copies = [version_of(target, f"{one.name}/{one.version}") for one in known]
    fresh = block(target, copies, found.blocked, who=who)
    raise VidgenError(
        f"{found} must not be used: {found.blocked}. It is not copied; {len(copies)} copies of it there are blocked",
        got=f"blocked now: {', '.join(map(str, fresh)) or 'none'}",
        move="Train again without it: vidgen run",
    )


def _note_copy(uri: str, found: Version, target: str) -> None:
    """Remember with a version where copies of it are, for whoever has to block them."""
    places = sorted({*found.tags.get(COPIES_TAG, "").split(), _public(target)})
    client(uri).set_model_version_tag(found.name, str(found.version), COPIES_TAG, " ".join(places))


def _figures(uri: str, version: Version) -> tuple[list[dict[str, float]], tuple[str, str]]:
    """Figures of its checkpoints, one a row, and the name and digest of the data behind them."""
    metrics = client(uri).get_logged_model(version.logged_model).metrics or []
    data = {(one.dataset_name, one.dataset_digest) for one in metrics if one.dataset_name}
    rows = [{"step": float(one.step), one.key: one.value} for one in metrics]
    return rows, next(iter(data), (version.name, version.release))


def _public(uri: str) -> str:
    """An address without the name and password that it may have."""
    host = urlsplit(uri).netloc
    return uri.replace(host, host.rpartition("@")[2], 1) if "@" in host else uri
