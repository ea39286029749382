"""What a pass keeps of every frame, in memory that does not grow with the length of the source."""

import tempfile

import numpy as np
from numpy.typing import NDArray

__all__ = ["Spool"]

_IN_MEMORY_BYTES = 2**26


class Spool:
    """Small pictures of one shape, one after the other; when they become many, they lie in a file without a name."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - `close` closes it
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def append(self, picture: NDArray[np.uint8]) -> None:
        """Add one."""
        self._shape = picture.shape
        self._count += 1
        self._file.write(np.ascontiguousarray(picture).data)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, span: slice) -> NDArray[np.uint8]:
        """Those of a span [N, ...]; more can be appended before the first is asked for, and not later."""
        start, stop, _ = span.indices(self._count)
        size = int(np.prod(self._shape))
        self._file.seek(start * size)
        data = self._file.read(max(0, stop - start) * size)
        return np.frombuffer(data, np.uint8).reshape(-1, *self._shape)

    def close(self) -> None:
        """Let go of all of them."""
        self._file.close()
