"""How torch's distributed checkpoint writes to and reads from a store: one file of bytes a worker, and a manifest.

The manifest says of each tensor which parts of it lie where, and of each file its length and hash. It is JSON, and the
files are bare bytes, so that reading a checkpoint runs no code. It is written last: without it there is none.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from vidgen_core.training.store import Store

__all__ = ["MANIFEST", "Reader", "Writer", "check_file"]

MANIFEST = "manifest.json"
_READ_BYTES = 64 * 2**20


class _Lies(NamedTuple):
    """Where a part of a tensor lies."""

    file: str
    at: int
    nbytes: int
    sha256: str
    file_bytes: int


class Writer(StorageWriter):
    """Writes one checkpoint.

    Args:
        store: Where to.
        folder: Name of the checkpoint.
        rank: This worker.
        told: What else the manifest says, as JSON values.

    """

    def __init__(self, store: Store, folder: str, rank: int, told: Mapping[str, Any]) -> None:
        self._store, self._folder, self._rank, self._told = store, folder, rank, dict(told)

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this worker's file."""
        name = f"rank-{self._rank:05d}.bin"
        digest, at, parts = hashlib.sha256(), 0, []
        with self._store.writing(f"{self._folder}/{name}") as stream:
            for item in plan.items:
                tensor = planner.resolve_data(item)
                assert isinstance(tensor, Tensor)
                content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
                stream.write(content)
                digest.update(content)
                parts.append((item.index, at, len(content)))
                at += len(content)
        done: Future[list[WriteResult]] = Future()
        done.set_result(
            [
                WriteResult(index, count, _Lies(name, start, count, digest.hexdigest(), at))
                for index, start, count in parts
            ]
        )
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Publish: write the manifest. Only the first worker does."""
        lies = {result.index: result.storage_data for worker in results for result in worker}
        files = {one.file: {"bytes": one.file_bytes, "sha256": one.sha256} for one in lies.values()}
        tensors = {
            name: {
                "dtype": str(entry.properties.dtype).removeprefix("torch."),
                "shape": list(entry.size),
                "parts": [_told_part(part, lies[MetadataIndex(name, part.offsets)]) for part in entry.chunks],
            }
            for name, entry in metadata.state_dict_metadata.items()
            if isinstance(entry, TensorStorageMetadata)
        }
        manifest = {**self._told, "files": files, "tensors": tensors}
        self._store.put(f"{self._folder}/{MANIFEST}", json.dumps(manifest).encode())

    def reset(self, checkpoint_id: Any = None) -> None:
        """Nothing to forget: there is a writer for each checkpoint."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing to prepare."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """The plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """The plans as they are."""
        return plans

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """A store is given, never an id."""
        return False


class Reader(StorageReader):
    """Reads one checkpoint.

    Args:
        store: Where from.
        folder: Name of the checkpoint.
        manifest: Its manifest.

    """

    def __init__(self, store: Store, folder: str, manifest: Mapping[str, Any]) -> None:
        self._store, self._folder = store, folder
        self._entries, self._lies = {}, {}
        for name, told in manifest["tensors"].items():
            dtype = getattr(torch, told["dtype"])
            chunks = []
            for part in told["parts"]:
                chunk = ChunkStorageMetadata(Size(part["offset"]), Size(part["shape"]))
                chunks.append(chunk)
                self._lies[MetadataIndex(name, chunk.offsets)] = (part, dtype)
            self._entries[name] = TensorStorageMetadata(TensorProperties(dtype), Size(told["shape"]), chunks)

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """What there is."""
        return Metadata(dict(self._entries))

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read what this worker needs, whoever wrote it."""
        for item in plan.items:
            part, dtype = self._lies[item.storage_index]
            content = bytearray(self._store.read_range(f"{self._folder}/{part['file']}", part["at"], part["bytes"]))
            if not content:
                continue
            stored = torch.frombuffer(content, dtype=dtype).view(part["shape"])
            for axis, (start, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
                stored = stored.narrow(axis, start, length)
            target = planner.resolve_tensor(item).detach()
            target.copy_(stored)
            planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def reset(self, checkpoint_id: Any = None) -> None:
        """Nothing to forget: there is a reader for each checkpoint."""

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing to prepare."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """The plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """The plans as they are."""
        return plans

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """A store is given, never an id."""
        return False


def check_file(store: Store, folder: str, name: str, told: Mapping[str, Any]) -> None:
    """Whether a file is as it was written.

    Raises:
        ValueError: It is not.

    """
    digest, at = hashlib.sha256(), 0
    while content := store.read_range(f"{folder}/{name}", at, _READ_BYTES):
        digest.update(content)
        at += len(content)
    if at != told["bytes"] or digest.hexdigest() != told["sha256"]:
        raise ValueError(f"{name} is not what was written")


def _told_part(part: ChunkStorageMetadata, lies: _Lies) -> dict[str, Any]:
    place = {"offset": list(part.offsets), "shape": list(part.sizes)}
    return {**place, "file": lies.file, "at": lies.at, "bytes": lies.nbytes}
