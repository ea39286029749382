"""Checkpoints: `step-00000500` in a store, there whole or not at all, and the pointers `latest`, `best` and others.

A checkpoint is copied to memory between two steps, and written while the run goes on. Each worker writes its part; the
manifest, with length and hash of every file, comes last. What a kill leaves behind has no manifest, or fails its
hashes, and is passed over. Any number of workers, with split weights or without, can go on from it.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from vidgen_core import weights
from vidgen_core.errors import VidgenError
from vidgen_core.training.place import PEER_WAIT_S, Place
from vidgen_core.training.sharded_files import MANIFEST, Reader, Writer, check_file
from vidgen_core.training.store import Store

__all__ = ["Checkpoints", "Found", "facts", "name_of", "newest", "pointers", "protect", "published", "read"]

_POINTERS = "pointers"
# Said of every save and load by one process, which is nothing that a user could change.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
# What a manifest that was damaged or is of something else raises when it is used.
_DAMAGED = (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError)


class Found(NamedTuple):
    """What a run goes on from: the newest good checkpoint, or no facts and step 0; and why newer ones are not good."""

    step: int
    facts: dict[str, Any] | None
    damaged: dict[str, str]


class Checkpoints:
    """The checkpoints of one run, which all its workers save and restore together.

    Args:
        store: Where they are kept.
        place: Which worker this is.
        job: Digest of the job.
        keep: How many of the newest to keep; those that a pointer names stay as well.

    """

    def __init__(self, store: Store, place: Place, *, job: str, keep: int) -> None:
        self._store, self._place, self._job, self._keep = store, place, job, keep
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._saving: Future[None] | None = None
        # Opening a group does not notice that a worker is gone, so first see that all are here.
        place.gather("here")
        # A group of its own: writing goes on beside the steps, whose sums must not be mixed with its messages.
        wait = timedelta(seconds=PEER_WAIT_S)
        self._group = distributed.new_group(backend="gloo", timeout=wait) if place.world > 1 else None
        on_gpu = torch.device(place.device).type == "cuda"
        self._stager = DefaultStager(StagingOptions(on_gpu, False, False, on_gpu))

    def restore(self, tensors: Mapping[str, Tensor]) -> Found:
        """Load the newest good checkpoint into tensors of any split; what is not good is removed.

        Raises:
            VidgenError: Workers see different stores, or the checkpoint is of another job, or lacks a tensor. Then
                nothing was changed.

        """
        damaged: dict[str, str] = {}
        for folder in self._listed():
            manifest, reason = self._checked(folder)
            if manifest is None or reason:
                damaged[folder] = reason or "its manifest cannot be read"
                continue
            self._check_fits(folder, manifest, tensors)
            reader = Reader(self._store, folder, manifest)
            with _causes():
                load(dict(tensors), storage_reader=reader, process_group=self._group, no_dist=self._place.world == 1)
            self._clean(damaged)
            return Found(manifest["step"], manifest["facts"], damaged)
        self._clean(damaged)
        return Found(0, None, damaged)

    def save(
        self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, objective: float | None = None,
        protected: str | None = None,
    ) -> None:  # fmt: skip
        """Copy the state of one step to memory, and write it while the caller goes on.

        Args:
            step: Steps done.
            tensors: Named tensors, on every worker its own part where they are split.
            facts: JSON values that are kept beside.
            objective: Value of the held-out objective at this step; the lowest is what `best` points to.
            protected: Name of a pointer to it, which keeps it for ever.

        Raises:
            OSError: The checkpoint before this one could not be written.

        """
        self.wait()
        staged = self._stager.stage(dict(tensors))
        told = {"step": step, "job": self._job, "facts": json.loads(json.dumps(facts)), "objective": objective}
        self._saving = self._pool.submit(self._write, step, staged, told, protected)

    def wait(self) -> None:
        """Wait until what was saved is published.

        Raises:
            OSError: It could not be written.

        """
        saving, self._saving = self._saving, None
        if saving is None:
            return
        with _causes():
            saving.result()

    def close(self) -> None:
        """Let a save that is under way come to its end, whatever that is, and end the thread."""
        self._pool.shutdown(wait=True)
        self._stager.close()

    def _write(self, step: int, staged: Any, told: dict[str, Any], protected: str | None) -> None:
        folder = name_of(step)
        writer = Writer(self._store, folder, self._place.rank, told)
        alone = self._place.world == 1
        save(staged, storage_writer=writer, process_group=self._group, no_dist=alone)
        if not self._place.first:
            return
        _point(self._store, "latest", folder, told["objective"])
        best = pointers(self._store).get("best")
        if told["objective"] is not None and (best is None or told["objective"] < best["objective"]):
            _point(self._store, "best", folder, told["objective"])
        if protected is not None:
            _point(self._store, protected, folder, told["objective"])
        held = {pointer["checkpoint"] for pointer in pointers(self._store).values()}
        for old in published(self._store)[: -self._keep]:
            if old not in held:
                self._store.remove(old, MANIFEST)

    def _listed(self) -> list[str]:
        """The checkpoints that all workers see, newest first."""
        lists = self._place.gather(published(self._store)[::-1])
        for other in lists:
            if other != lists[0]:
                raise _strangers(sorted(set(other) ^ set(lists[0]))[0])
        return lists[0]

    def _checked(self, folder: str) -> tuple[dict[str, Any] | None, str]:
        """A checkpoint's manifest, and on every worker the same reason why it is not good, "" when it is."""
        manifest, reason, seen = None, "", None
        try:
            content = self._store.read(f"{folder}/{MANIFEST}")
            seen = hashlib.sha256(content).hexdigest()
            manifest = json.loads(content)
            manifest["step"], manifest["job"], manifest["facts"], manifest["tensors"]
            for name, told in sorted(manifest["files"].items())[self._place.rank :: self._place.world]:
                check_file(self._store, folder, name, told)
        except _DAMAGED as error:
            reason = f"{error}"
        if len(set(self._place.gather(seen))) > 1:
            raise _strangers(folder)
        return manifest, next((one for one in self._place.gather(reason) if one), "")

    def _check_fits(self, folder: str, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        if manifest["job"] != self._job:
            raise VidgenError(
                "The checkpoints here belong to a run with other data or settings",
                got=folder,
                move="Give this run a folder of its own, or remove that one",
            )
        there = {name: torch.empty(told["shape"], device="meta") for name, told in manifest["tensors"].items()}
        if (wrong := weights.unlike(there, tensors)) is not None:
            count, got, allowed = wrong
            raise VidgenError(
                f"Checkpoint {folder} does not fit this learner: {count} tensors differ",
                got=got,
                allowed=allowed,
                move="Go on with the version of the program that wrote it, or remove the run's folder to begin anew",
            )

    def _clean(self, damaged: Mapping[str, str]) -> None:
        """Remove what is damaged, and what a killed run left half written or half removed."""
        if self._place.first:
            good = set(published(self._store)) - damaged.keys()
            for folder in self._store.folders() - good - {_POINTERS}:
                self._store.remove(folder, MANIFEST)
            for name, pointer in pointers(self._store).items():
                if pointer["checkpoint"] not in good:
                    self._store.remove(f"{_POINTERS}/{name}", f"{name}.json")


def name_of(step: int) -> str:
    """The name of the checkpoint of a step."""
    return f"step-{step:08d}"


def published(store: Store) -> list[str]:
    """The checkpoints there are, oldest first."""
    ends = (name.removesuffix(f"/{MANIFEST}") for name in store.names() if name.endswith(f"/{MANIFEST}"))
    return sorted(name for name in ends if name.startswith("step-"))


def pointers(store: Store) -> dict[str, dict[str, Any]]:
    """{"checkpoint": ..., "objective": ...} by name of the pointer: latest, best, and those that protect."""
    found = {}
    for name in store.names():
        if name.startswith(f"{_POINTERS}/") and name.endswith(".json"):
            try:
                told = json.loads(store.read(name))
                found[told["pointer"]] = {"checkpoint": told["checkpoint"], "objective": told["objective"]}
            except _DAMAGED:
                continue
    return found


def protect(store: Store, checkpoint: str, pointer: str) -> None:
    """Keep a checkpoint until the pointer is given to another one.

    Raises:
        VidgenError: There is no such checkpoint.

    """
    if checkpoint not in published(store):
        raise VidgenError(
            f"There is no checkpoint {checkpoint!r}", allowed=", ".join(published(store)), move="Name one of those"
        )
    _point(store, pointer, checkpoint, None)


def facts(store: Store, checkpoint: str) -> dict[str, Any]:
    """The facts of a checkpoint, without its tensors."""
    return json.loads(store.read(f"{checkpoint}/{MANIFEST}"))["facts"]


def read(store: Store, checkpoint: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a checkpoint, whole and on the CPU, and its facts; one process needs no others for it.

    Raises:
        ValueError: It is damaged.

    """
    manifest = json.loads(store.read(f"{checkpoint}/{MANIFEST}"))
    for name, told in manifest["files"].items():
        check_file(store, checkpoint, name, told)
    tensors = {
        name: torch.empty(told["shape"], dtype=getattr(torch, told["dtype"]))
        for name, told in manifest["tensors"].items()
    }
    with _causes():
        load(tensors, storage_reader=Reader(store, checkpoint, manifest), no_dist=True)
    return tensors, manifest["facts"]


def newest(store: Store, *, after: int = 0) -> tuple[int, dict[str, Tensor]] | None:
    """Step and tensors of the newest good checkpoint of a later step than `after`, for whoever watches a run."""
    for name in reversed(published(store)):
        if (step := int(name.removeprefix("step-"))) <= after:
            return None
        try:
            return step, read(store, name)[0]
        except _DAMAGED:
            # Damaged, or dropped by the run in this moment.
            continue
    return None


def _point(store: Store, pointer: str, checkpoint: str, objective: float | None) -> None:
    told = {"pointer": pointer, "checkpoint": checkpoint, "objective": objective}
    store.put(f"{_POINTERS}/{pointer}/{pointer}.json", json.dumps(told).encode())


def _strangers(folder: str) -> VidgenError:
    return VidgenError(
        "The workers of this run see different checkpoints",
        got=folder,
        move="Put the home on a disk that all machines share, or set training.checkpoint_uri",
    )


@contextmanager
def _causes() -> Iterator[None]:
    """Raise what happened instead of torch's collection of what happened where."""
    try:
        yield
    except CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values()]
        raise next((cause for cause in causes if isinstance(cause, OSError)), causes[0]) from error
