"""Weights on disk: one folder with `weights.safetensors` and `card.json`, written whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from vidgen_core import digests
from vidgen_core.errors import VidgenError

__all__ = ["digest", "digest_of", "load", "put", "read_card", "remove", "save", "sync_folder", "unlike", "write_synced"]

_WEIGHTS, _CARD = "weights.safetensors", "card.json"


def save(folder: Path, state_dict: Mapping[str, Tensor], card: Mapping[str, Any]) -> str:
    """Write weights and their card, replacing what was there; returns the digest of the weights.

    The digest is of the weights alone: equal tensors have equal digests whatever their card says.
    """
    tensors = _storable(state_dict)
    staging = folder.with_name(f".{folder.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        write_synced(staging / _WEIGHTS, to_bytes(tensors))
        write_synced(staging / _CARD, json.dumps(card, indent=2, sort_keys=True).encode())
        found = digest(staging)
        sync_folder(staging)
        _swap(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return found


def digest_of(state_dict: Mapping[str, Tensor]) -> str:
    """The digest that weights will have once they are saved."""
    return hashlib.sha256(to_bytes(_storable(state_dict))).hexdigest()


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and the card.

    Raises:
        VidgenError: The folder holds no weights, or they are damaged.

    """
    card = read_card(folder)
    try:
        return from_bytes((folder / _WEIGHTS).read_bytes()), card
    except (SafetensorError, FileNotFoundError) as error:
        raise VidgenError(f"The weights in {folder} cannot be read", got=str(error), move=_MOVE) from error


def put(state_dict: Mapping[str, Tensor], network: nn.Module, folder: Path) -> None:
    """Put weights from a folder into a network.

    Raises:
        VidgenError: They are not this network's: one is missing, one too many, or one has another shape.

    """
    if (wrong := unlike(state_dict, network.state_dict())) is not None:
        count, there, wanted = wrong
        raise VidgenError(
            f"The weights in {folder} are not those of this network: {count} tensors differ",
            got=there, allowed=wanted, move=f"{_MOVE}, or use the version of the program that wrote it",
        )  # fmt: skip
    network.load_state_dict(state_dict)


def unlike(there: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[int, str, str] | None:
    """How tensors differ from those that are wanted, by name and shape: how many do, and both sides of the first."""
    have, want = ({name: tuple(one.shape) for name, one in some.items()} for some in (there, wanted))
    wrong = [name for name, shape in want.items() if have.get(name) != shape] + sorted(have.keys() - want)
    if not wrong:
        return None
    first = wrong[0]
    return len(wrong), f"{first} {have.get(first, 'is missing')}", f"{first} {want.get(first, 'is not wanted')}"


def read_card(folder: Path) -> dict[str, Any]:
    """The card alone.

    Raises:
        VidgenError: The folder holds no card.

    """
    try:
        return json.loads((folder / _CARD).read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError) as error:
        raise VidgenError(f"There are no weights in {folder}", got=str(error), move=_MOVE) from error


def digest(folder: Path) -> str:
    """Hex SHA-256 of the weights in a folder."""
    return digests.of_file(folder / _WEIGHTS)


def remove(folder: Path) -> None:
    """Remove a folder of weights, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)


def write_synced(file: Path, content: bytes | memoryview) -> None:
    """Write a file and wait until its bytes are on the disk."""
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_MOVE = "Remove the folder and run the stage that wrote it again"


def _storable(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory, which tied weights and views do.
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in sorted(state_dict.items())}


def _swap(staging: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    staging.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
