"""Content digests: one spelling of a value, one hash of it."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["of_array", "of_file", "of_value"]


def of_value(value: object, length: int = 16) -> str:
    """Hex SHA-256 of a JSON-able value (or pydantic model) in canonical spelling, shortened to `length` characters."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def of_array(array: "NDArray[np.generic]", length: int = 16) -> str:
    """Hex SHA-256 of an array's shape, type and elements, shortened to `length` characters."""
    told = hashlib.sha256(f"{array.shape} {array.dtype.str} ".encode())
    told.update(array.data if array.flags.c_contiguous else array.tobytes())
    return told.hexdigest()[:length]


def of_file(file: Path, length: int = 64) -> str:
    """Hex SHA-256 of a file's bytes, shortened to `length` characters."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:length]


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no canonical JSON spelling")
