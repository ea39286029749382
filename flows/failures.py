"""How a stage's failure crosses from its process to the user: as the sentence it was, through a file."""

import errno
from pathlib import Path

from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen

__all__ = ["DISK_FULL_EXIT", "MISTAKE_EXIT", "Mistake", "StageCrashedError", "disk_full", "is_disk_full"]

# Exit codes of a stage, and of the command line. A full disk has its own because its sentence may not fit on the disk.
MISTAKE_EXIT = 2
DISK_FULL_EXIT = 28

_DISK_FULL_SIGNS = ("No space left on device", "database or disk is full", "Disk quota exceeded", "os error 28")


class StageCrashedError(Exception):
    """A stage ended in a way that is our fault or the machine's; the message ends with where its log is.

    Args:
        message: What happened.
        died: Whether a signal ended its process: a library aborted, or the kernel took its memory. A stage goes on
            from what it has left, so another try is worth it; a bug of ours would come again.

    """

    def __init__(self, message: str, *, died: bool = False) -> None:
        super().__init__(message)
        self.died = died


class Mistake(Frozen):
    """A `VidgenError` as it stands in the file."""

    what: str
    got: str | int | float | None = None
    allowed: str | None = None
    move: str | None = None
    exit_code: int = MISTAKE_EXIT

    @classmethod
    def of(cls, error: VidgenError) -> "Mistake":
        """The error as a value."""
        got = error.got if isinstance(error.got, str | int | float | None) else repr(error.got)
        allowed = None if error.allowed is None else str(error.allowed)
        return cls(what=error.what, got=got, allowed=allowed, move=error.move, exit_code=error.exit_code)

    def error(self) -> VidgenError:
        """The value as an error again."""
        move, code = self.move, self.exit_code
        return VidgenError(self.what, got=self.got, allowed=self.allowed, move=move, exit_code=code)


def is_disk_full(error: BaseException) -> bool:
    """True when a full disk is the error or among its causes, whichever library met it."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        if isinstance(at, OSError) and at.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(sign in str(at) for sign in _DISK_FULL_SIGNS):
            return True
        at = at.__cause__ or at.__context__
    return False


def disk_full(place: Path | None) -> VidgenError:
    """The sentence for a full disk; None where it is not known what could not be written."""
    return VidgenError(
        "The disk is full" if place is None else f"The disk is full: {place} cannot take any more",
        move="Free some space and give the same command again: it continues where it stopped",
    )
