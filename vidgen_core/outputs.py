"""Where a result is to be written, looked at before any work is done for it."""

import os
from collections.abc import Sequence
from pathlib import Path

from vidgen_core.errors import VidgenError

__all__ = ["check_new_folder", "check_out"]


def check_out(out: Path, suffixes: Sequence[str], what: str) -> None:
    """Refuse a file that could not be written.

    Args:
        out: The file.
        suffixes: Those that it may have, as ".mp4".
        what: What is to be written, as "A card"; it begins the sentence.

    Raises:
        VidgenError: It has another suffix, is a folder, or lies in no folder that we may write.

    """
    writable = not out.is_dir() and _takes_more(out.absolute().parent) and (not out.exists() or os.access(out, os.W_OK))
    if out.suffix.lower() not in suffixes or not writable:
        kinds = " or ".join(suffixes)
        raise VidgenError(
            f"{what} cannot be written there", got=str(out), allowed=f"an {kinds} file in a folder that can be written"
        )


def check_new_folder(out: Path) -> None:
    """Refuse a folder that is there already, or could not be made.

    Raises:
        VidgenError: There is something of that name, or the folder above it is none that we may write.

    """
    if os.path.lexists(out) or not _takes_more(out.absolute().parent):
        raise VidgenError(
            "A new folder cannot be made there",
            got=str(out),
            allowed="a name that is not taken, in a folder that can be written",
            move="Choose another --out",
        )


def _takes_more(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
