"""Files of tables that no version needs any more: they leave the disk when nobody can come back to them.

A commit that replaces or drops a unit leaves its file where it is, so that earlier versions, and the releases that pin
them, can be read. Delta's log tells which files left when; what a kept release pins stays, however old.
"""

from collections.abc import Iterable

from deltalake.exceptions import DeltaError

from data_prep.tables import Release, Tables
from vidgen_core.frozen import Frozen

__all__ = ["Freed", "vacuum"]

_HOURS_A_DAY = 24


class Freed(Frozen):
    """What a table was rid of, or would be.

    Args:
        table: Its name.
        files: How many files: of units that left, and what killed runs did not commit.
        file_bytes: Their size.
        note: Why nothing was removed where it could not be told what is pinned.

    """

    table: str
    files: int
    file_bytes: int
    note: str = ""


def vacuum(tables: Tables, kept: Iterable[Release], *, keep_days: float = 7.0, dry_run: bool = False) -> list[Freed]:
    """Remove files that left the current version more than some days ago and that no kept release pins.

    Args:
        tables: Whose; nobody else may be writing to them.
        kept: Releases that stay readable.
        keep_days: Any version of the last so many days stays readable too, in whole hours.
        dry_run: Remove nothing, and tell what would be.

    """
    pinned: dict[str, set[int]] = {}
    for release in kept:
        for name, state in release.tables.items():
            pinned.setdefault(name, set()).add(state.version)
    return [_of_table(tables, name, pinned.get(name, set()), keep_days, dry_run) for name in tables.names()]


def _of_table(tables: Tables, name: str, versions: set[int], keep_days: float, dry_run: bool) -> Freed:
    try:
        needed = {file for version in versions for file in tables.listed(name, version)}
    except DeltaError:
        note = "kept: its log does not reach back to all releases that pin it"
        return Freed(table=name, files=0, file_bytes=0, note=note)
    needed |= set(tables.listed(name))
    # The log tells for ever of what left, also of files that were deleted long ago.
    there = set(tables.stored(name)) - needed
    gone = [file for file in tables.expired(name, int(keep_days * _HOURS_A_DAY)) if file in there]
    size = sum(map(tables.size_bytes, gone))
    for file in () if dry_run else gone:
        tables.delete(file)
    return Freed(table=name, files=len(gone), file_bytes=size)
