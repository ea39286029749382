"""Model versions: registering a generator or encoder, promoting it, and fetching one by its alias."""

import fcntl
import json
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vidgen_core.errors import VidgenError, did_you_mean
from vidgen_core.evaluation.evaluate import Evaluation
from vidgen_core.frozen import Frozen
from vidgen_core.registry.gate import Decision, decide
from vidgen_core.registry.settings import GateSettings
from vidgen_core.registry.tracking import Tracker, client

__all__ = ["Version", "by_alias", "challenge", "fetch", "locked", "promote", "register", "trained_on"]

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
_EVALUATION_TAG = "vidgen.evaluation"
# What a folder that was fetched whole has: a generator's card, or an encoder's.
_CARDS = ("generator.json", "card.json")


class Version(Frozen):
    """A registered version of a model."""

    name: str
    version: int
    run_id: str
    source: str


def register(tracker: Tracker, name: str, folder: Path, *, model: str, tags: Mapping[str, str]) -> Version:
    """Log a folder and register it; the same weights are registered once.

    Args:
        tracker: The run that made it.
        name: The registered model.
        folder: That of `applications.generator`, or a trained video encoder's.
        model: Digest of the generator or encoder.
        tags: Digests of data and recipe, code version, evaluation: whatever explains the version later.

    """
    store = client(tracker.uri)
    _ensure_model(store, name)
    for known in store.search_model_versions(f"name = '{name}'"):
        if known.tags.get("vidgen.model") == model:
            return _version(known)
    place = f"{name}-{model[:12]}"
    tracker.artifact(folder, place)
    source = f"{store.get_run(tracker.run_id).info.artifact_uri}/{place}"
    made = store.create_model_version(name, source, run_id=tracker.run_id, tags={**tags, "vidgen.model": model})
    return _version(made)


def promote(
    uri: str, version: Version, evaluation: Evaluation, settings: GateSettings, *, lock_file: Path, who: str
) -> Decision:
    """Let the gate decide; the champion changes under a lock, with an entry in the model's journal.

    A refused version becomes `challenger`. Promoting the champion again changes nothing.
    """
    store = client(uri)
    with locked(lock_file):
        store.set_model_version_tag(version.name, str(version.version), _EVALUATION_TAG, evaluation.model_dump_json())
        champion = by_alias(store, version.name, CHAMPION)
        if champion is not None and int(champion.version) == version.version:
            return Decision(promoted=True, reasons=("It is the champion already.",))
        theirs = None if champion is None else champion.tags.get(_EVALUATION_TAG)
        decision = decide(evaluation, Evaluation.model_validate_json(theirs) if theirs else None, settings)
        before = None if champion is None else int(champion.version)
        entry = {"time": time.time(), "who": who, "from": before, "to": version.version, **decision.model_dump()}
        key = f"vidgen.journal.{time.time_ns()}"
        store.set_registered_model_tag(version.name, key, json.dumps(entry))
        if decision.promoted:
            if before is not None:
                store.set_registered_model_alias(version.name, PREVIOUS, str(before))
            store.set_registered_model_alias(version.name, CHAMPION, str(version.version))
        else:
            store.set_registered_model_alias(version.name, CHALLENGER, str(version.version))
        return decision


def challenge(uri: str, version: Version, *, lock_file: Path) -> str:
    """Make a version that was not measured the challenger, unless it is the champion; the alias that it has then."""
    store = client(uri)
    with locked(lock_file):
        champion = by_alias(store, version.name, CHAMPION)
        if champion is not None and int(champion.version) == version.version:
            return CHAMPION
        store.set_registered_model_alias(version.name, CHALLENGER, str(version.version))
        return CHALLENGER


def fetch(uri: str, model: str, cache_dir: Path) -> Path:
    """The folder of a version named `name@alias` or `name/number`, from the registry alone.

    Raises:
        VidgenError: There is no such model, alias or version; the message lists what there is.

    """
    from mlflow.artifacts import download_artifacts

    store = client(uri)
    found = _find(store, model)
    folder = cache_dir / f"{found.name}-{found.version}-{found.tags['vidgen.model'][:12]}"
    if not any((folder / card).exists() for card in _CARDS):
        fresh = folder.with_name(f".{folder.name}.staging")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        came = Path(download_artifacts(artifact_uri=found.source, dst_path=str(fresh), tracking_uri=uri))
        shutil.rmtree(folder, ignore_errors=True)
        came.rename(folder)
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def trained_on(uri: str, releases: Collection[str]) -> list[str]:
    """Every version whose data was one of these releases, as "name version 3 @champion"."""
    store = client(uri)
    found = []
    for model in store.search_registered_models():
        names: dict[str, list[str]] = {}
        for alias, number in store.get_registered_model(model.name).aliases.items():
            names.setdefault(str(number), []).append(f" @{alias}")
        for version in store.search_model_versions(f"name = '{model.name}'"):
            if version.tags.get("vidgen.release") in releases:
                number = str(version.version)
                found.append((model.name, int(number), "".join(sorted(names.get(number, [])))))
    return [f"{name} version {number}{aliases}" for name, number, aliases in sorted(found)]


def _find(store: Any, model: str) -> Any:
    name, alias_sign, alias = model.partition("@")
    number = ""
    if not alias_sign:
        name, _, number = model.partition("/")
    known = [registered.name for registered in store.search_registered_models()]
    if name not in known:
        move = did_you_mean(name, known) or "Train and register one first: vidgen run"
        raise VidgenError(f"There is no model {name!r}", allowed=", ".join(known) or "none yet", move=move)
    versions = {str(one.version): one for one in store.search_model_versions(f"name = '{name}'")}
    if number:
        if number not in versions:
            raise VidgenError(f"{name} has no version {number!r}", allowed=", ".join(sorted(versions)))
        return versions[number]
    aliases = store.get_registered_model(name).aliases
    wanted = alias or CHAMPION
    if wanted not in aliases:
        allowed = ", ".join(f"{name}@{one}" for one in aliases) or "none yet"
        raise VidgenError(f"{name} has no {wanted!r}", allowed=allowed, move="Or name a version as name/number")
    return versions[str(aliases[wanted])]


def by_alias(store: Any, name: str, alias: str) -> Any | None:
    """The version that an alias names, if there is one."""
    aliases = store.get_registered_model(name).aliases
    return store.get_model_version(name, str(aliases[alias])) if alias in aliases else None


def _ensure_model(store: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        store.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version(found: Any) -> Version:
    return Version(name=found.name, version=int(found.version), run_id=found.run_id, source=found.source)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Promotions of one home happen one after the other."""
    with file.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
