"""Checkpoints: folders `step-00000500` that are there whole or not at all.

A checkpoint is written into a hidden folder, synced, and renamed; its manifest holds the length and hash of every
file. What a kill leaves behind is therefore hidden, or has no manifest, or fails its hashes, and is passed over.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vidgen_core.weights import sync_folder, write_synced

__all__ = ["Found", "clean", "latest", "save"]

_STAGING = ".staging"
_MANIFEST = "manifest.json"


class Found(NamedTuple):
    """What `latest` found: the newest good checkpoint, or no parts and step 0; and why newer ones are not good."""

    parts: dict[str, Any] | None
    step: int
    job: str | None
    damaged: dict[str, str]


def save(folder: Path, step: int, parts: Mapping[str, Any], *, job: str, keep: int) -> None:
    """Write the checkpoint of one step, then drop all but the newest `keep`.

    Args:
        folder: Folder of a run's checkpoints.
        step: Steps done.
        parts: Named values that torch loads with `weights_only`; each becomes a file.
        job: Digest of the job.
        keep: Checkpoints to keep.

    """
    staging = folder / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        files = {name: _write(staging / f"{name}.pt", part) for name, part in parts.items()}
        manifest = {"step": step, "job": job, "files": files}
        write_synced(staging / _MANIFEST, json.dumps(manifest, indent=2).encode())
        sync_folder(staging)
        target = folder / f"step-{step:08d}"
        if target.exists():
            _drop(target)
        staging.rename(target)
        sync_folder(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for old in _newest_first(folder)[keep:]:
        _drop(old)


def latest(folder: Path) -> Found:
    """The newest checkpoint whose files are all as they were written."""
    damaged: dict[str, str] = {}
    for place in _newest_first(folder):
        try:
            manifest = json.loads((place / _MANIFEST).read_text())
            parts = {name: _read(place / f"{name}.pt", told) for name, told in manifest["files"].items()}
            return Found(parts, manifest["step"], manifest["job"], damaged)
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            damaged[place.name] = str(error)
    return Found(None, 0, None, damaged)


def clean(folder: Path, damaged: Iterable[str] = ()) -> None:
    """Remove damaged checkpoints, and what a killed run left half written or half dropped."""
    for name in damaged:
        _drop(folder / name)
    for place in folder.iterdir() if folder.is_dir() else ():
        if not (place / _MANIFEST).exists():
            shutil.rmtree(place)


def _newest_first(folder: Path) -> list[Path]:
    return sorted((file.parent for file in folder.glob(f"step-*/{_MANIFEST}")), reverse=True)


def _drop(place: Path) -> None:
    # Without its manifest a checkpoint is none, so that a kill in the middle leaves no half of one.
    (place / _MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(place)


def _write(file: Path, part: Any) -> dict[str, Any]:
    # Into memory first: torch hides why a file could not be written, and a full disk deserves its own sentence.
    buffer = io.BytesIO()
    torch.save(part, buffer)
    content = buffer.getbuffer()
    write_synced(file, content)
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _read(file: Path, told: Mapping[str, Any]) -> Any:
    content = file.read_bytes()
    if len(content) != told["bytes"] or hashlib.sha256(content).hexdigest() != told["sha256"]:
        raise ValueError(f"{file.name} is not what was written")
    return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
