"""Versions of generators and encoders: registering one, and getting it back from the registry's own bytes."""

import json
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vidgen_core import digests, weights
from vidgen_core.applications import generator
from vidgen_core.errors import VidgenError, did_you_mean
from vidgen_core.frozen import Frozen
from vidgen_core.registry.gate import Evidence
from vidgen_core.registry.journal import BLOCKED_TAG, ensure_model, journal_of, models_of, settle
from vidgen_core.registry.serving import GENERATOR, write_description
from vidgen_core.registry.tracking import Tracker, client

__all__ = [
    "COPIES_TAG",
    "ENCODER",
    "EVIDENCE_TAG",
    "MODEL_TAG",
    "SHAPE_TAG",
    "Version",
    "evidence_of",
    "fetch",
    "keep_evidence",
    "register",
    "trained_on",
    "version_of",
]

# MLflow's database does not keep which LoggedModel a version is of.
_LOGGED_TAG = "vidgen.logged_model"
EVIDENCE_TAG, MODEL_TAG, _RELEASE_TAG = "vidgen.evidence", "vidgen.model", "vidgen.release"
# Addresses of the registries that copies of it went to.
COPIES_TAG = "vidgen.copies"
# What a version is of: generators are served, and an encoder's folder is only fetched.
_KIND_TAG, ENCODER = "vidgen.kind", "encoder"
# What a whole folder has, and its digest.
_FOLDERS = {GENERATOR: ("generator.json", generator.digest), ENCODER: ("card.json", weights.digest)}
# Of the clips that the version makes: "frames x height x width".
SHAPE_TAG = "vidgen.shape"


class Version(Frozen):
    """A registered version of a model.

    Args:
        name, version: What it is called.
        run_id: The MLflow run that it is of.
        logged_model: The LoggedModel that has its files and figures.
        source: Where its files are.
        model, release: Digests of the generator and of the data release that it learned from.
        aliases: Those that it has.
        blocked: Why it must not be used; "" where it may.
        tags: All that explains it.

    """

    name: str
    version: int
    run_id: str
    logged_model: str
    source: str
    model: str
    release: str
    aliases: tuple[str, ...] = ()
    blocked: str = ""
    tags: dict[str, str] = {}

    @property
    def copies(self) -> list[str]:
        """Addresses of the registries that copies of it went to."""
        return self.tags.get(COPIES_TAG, "").split()

    def __str__(self) -> str:
        """As people name it: shapes version 3 @champion."""
        return f"{self.name} version {self.version}" + "".join(f" @{alias}" for alias in self.aliases)


def register(
    tracker: Tracker, name: str, folder: Path, *, model: str, tags: Mapping[str, str], kind: str = GENERATOR
) -> Version:
    """Log a folder and register it, a generator as a model that MLflow can serve; the same weights are registered once.

    Args:
        tracker: The run that made it.
        name: The registered model.
        folder: Of `applications.generator`, or of an encoder's weights.
        model: Digest of the generator.
        tags: Digests of data and recipe, code version, evaluation: whatever explains the version later.
        kind: `GENERATOR` or `ENCODER`.

    Raises:
        VidgenError: Models cannot be called so.

    """
    store = client(tracker.uri)
    if name.endswith(journal_of("")):
        allowed = f"a name that does not end with {journal_of('')}"
        raise VidgenError("A model cannot be called so", got=name, allowed=allowed)
    ensure_model(store, name)
    for known in store.search_model_versions(f"name = '{name}'"):
        if known.tags.get(MODEL_TAG) == model and _LOGGED_TAG in known.tags:
            return _version(store, known)
    tags = {**tags, MODEL_TAG: model, _KIND_TAG: kind}
    run = store.get_run(tracker.run_id)
    logged = store.create_logged_model(run.info.experiment_id, name=name, source_run_id=tracker.run_id, tags=tags)
    if kind == GENERATOR:
        with tempfile.TemporaryDirectory() as staging:
            file = write_description(Path(staging), model_id=logged.model_id, run_id=tracker.run_id)
            store.log_model_artifact(logged.model_id, str(file))
    store.log_model_artifacts(logged.model_id, str(folder), kind)
    store.finalize_logged_model(logged.model_id, "READY")
    made = store.create_model_version(
        name, logged.artifact_location, run_id=tracker.run_id, model_id=logged.model_id,
        tags={**tags, _LOGGED_TAG: logged.model_id},
    )  # fmt: skip
    return _version(store, made)


def version_of(uri: str, model: str) -> Version:
    """The version named `name@alias` or `name/number`; `name` alone is its champion.

    The journal says what an alias means: a promotion that was killed before it had set the aliases is finished first.

    Raises:
        VidgenError: There is no such model, alias or version; the message lists what there is.

    """
    store = client(uri)
    name, alias_sign, alias = model.partition("@")
    number = ""
    if not alias_sign:
        name, _, number = model.partition("/")
    _check_known(store, name)
    state = settle(store, name)
    aliases = {told: str(one) for told, one in store.get_registered_model(name).aliases.items()}
    if state.champion is not None:
        # A blocked champion has no alias: asked for it, we say why instead of that there is none.
        aliases.setdefault("champion", str(state.champion))
    versions = {str(one.version): one for one in store.search_model_versions(f"name = '{name}'")}
    if number:
        if number not in versions:
            raise VidgenError(f"{name} has no version {number!r}", allowed=", ".join(sorted(versions, key=int)))
        return _version(store, versions[number])
    wanted = alias or "champion"
    if wanted not in aliases:
        allowed = ", ".join(f"{name}@{one}" for one in aliases) or "none yet"
        raise VidgenError(f"{name} has no {wanted!r}", allowed=allowed, move="Or name a version as name/number")
    return _version(store, versions[aliases[wanted]])


def _check_known(store: Any, name: str) -> None:
    """Refuse what is no model, with what there is."""
    from mlflow.exceptions import MlflowException

    try:
        if name and not name.endswith(journal_of("")):
            store.get_registered_model(name)
            return
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
    known = models_of(store)
    move = did_you_mean(name, known) or "Train and register one first: vidgen run"
    raise VidgenError(f"There is no model {name!r}", allowed=", ".join(known) or "none yet", move=move)


def fetch(uri: str, model: str, cache_dir: Path, *, blocked_too: bool = False) -> Path:
    """The folder of a version named `name@alias` or `name/number`, from the registry alone.

    Args:
        uri: The registry.
        model: What it is called.
        cache_dir: Where copies are kept; what is there and whole is not fetched again.
        blocked_too: Also a version that learned from what was taken down.

    Raises:
        VidgenError: There is none, it is blocked, or the registry's bytes are gone or not those that were registered.

    """
    found = version_of(uri, model)
    if not found.logged_model:
        raise VidgenError(f"{found} was not registered by this version of vidgen", move="Register it: vidgen release")
    if found.blocked and not blocked_too:
        raise VidgenError(
            f"{found} must not be used: {found.blocked}",
            move=f"Train again without it (vidgen run), or go back: vidgen release --rollback --model {found.name}. "
            f"--blocked-too takes it all the same",
        )
    folder = cache_dir / f"{found.name}-{found.version}-{found.model[:12]}"
    kind = found.tags.get(_KIND_TAG, GENERATOR)
    card, digest_of = _FOLDERS[kind]
    if (folder / card).exists():
        return folder
    cache_dir.mkdir(parents=True, exist_ok=True)
    # Its own: others may be fetching the same.
    with tempfile.TemporaryDirectory(prefix=".staging-", dir=cache_dir) as staging:
        came = _downloaded(uri, f"{found.source}/{kind}", Path(staging) / "came")
        if (digest := digest_of(came)) != found.model:
            raise VidgenError(
                f"The registry's bytes of {found} are not those that were registered",
                got=digest, allowed=found.model, move="Restore its files, or go back with vidgen release --rollback",
            )  # fmt: skip
        try:
            came.rename(folder)
        except OSError:
            # Who came first stays, since it may be in use; a folder that somebody damaged does not.
            if not (folder / card).exists():
                shutil.rmtree(folder, ignore_errors=True)
                came.rename(folder)
    return folder


def keep_evidence(store: Any, version: Version, evidence: Evidence) -> str:
    """Put what the gate decided upon beside the version's files; its digest, which names it."""
    text = evidence.model_dump_json(indent=1)
    key = digests.of_value(json.loads(text))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{key}.json"
        file.write_text(text)
        store.log_model_artifact(version.logged_model, str(file), "evidence")
    store.set_model_version_tag(version.name, str(version.version), EVIDENCE_TAG, key)
    return key


def evidence_of(uri: str, version: Version) -> Evidence | None:
    """What the gate decided upon last; None where it was never asked.

    Raises:
        VidgenError: Another version of vidgen wrote it, with other fields; or the registry's file is gone.

    """
    key = version.tags.get(EVIDENCE_TAG)
    if key is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = _downloaded(uri, f"{version.source}/evidence/{key}.json", Path(folder) / "evidence")
        try:
            return Evidence.model_validate_json(file.read_text())
        except ValidationError as error:
            raise VidgenError(
                f"What {version} was promoted by cannot be read by this vidgen, so nothing is compared with it",
                move="Give vidgen release for its run again, or go back with vidgen release --rollback",
            ) from error


def trained_on(uri: str, releases: Collection[str]) -> list[Version]:
    """Every version whose data was one of these releases."""
    store = client(uri)
    found = [
        _version(store, one)
        for name in models_of(store)
        for one in store.search_model_versions(f"name = '{name}'")
        if one.tags.get(_RELEASE_TAG) in releases
    ]
    return sorted(found, key=lambda version: (version.name, version.version))


def _downloaded(uri: str, source: str, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    folder.mkdir()
    try:
        return Path(download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=uri))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise VidgenError(
            "Files of the registry cannot be read", got=f"{source}: {str(error).splitlines()[-1]}",
            move="Look whether the registry is up and has them, and restore them where they are gone",
        ) from error  # fmt: skip


def _version(store: Any, found: Any) -> Version:
    aliases = store.get_registered_model(found.name).aliases
    return Version(
        name=found.name,
        version=int(found.version),
        run_id=found.run_id or "",
        logged_model=found.tags.get(_LOGGED_TAG, ""),
        source=found.source,
        model=found.tags.get(MODEL_TAG, ""),
        release=found.tags.get(_RELEASE_TAG, ""),
        aliases=tuple(sorted(alias for alias, number in aliases.items() if int(number) == int(found.version))),
        blocked=found.tags.get(BLOCKED_TAG, ""),
        tags=found.tags,
    )
