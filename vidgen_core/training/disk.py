"""A full disk, said as a sentence."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vidgen_core.errors import VidgenError

__all__ = ["disk_errors"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn the error of a full disk into one that the user can mend; other errors pass.

    Raises:
        VidgenError: The disk of `folder`, or the share of it that this user may fill, is full.

    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        free_mb = shutil.disk_usage(folder).free // 2**20
        raise VidgenError(
            f"The disk is full: {folder} could not be written",
            got=f"{error.strerror}, {free_mb} MB free",
            move="Free some space and give the same command again; it goes on from the last good checkpoint",
        ) from error
