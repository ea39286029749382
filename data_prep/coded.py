"""Which clips a table has latents of, as far as its files can be read: what a plan may look at without any model."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from data_prep.tables import Tables
from vidgen_core.errors import VidgenError
from vidgen_core.training.columns import damaged

__all__ = ["IDENTITY", "read", "rows_of", "stored_rows"]

_log = logging.getLogger(__name__)
IDENTITY = ("clip_id", "split", "media_sha256")
"""Columns of `clips`, and of the latents made of them.

A clip's id tells its source and its time. Its crop and its encoding may change, so a latent is of certain bytes.
"""


def stored_rows(tables: Tables, name: str, columns: Sequence[str]) -> dict[Path, list[tuple[str, ...]] | None]:
    """File -> its rows; None for one that cannot be read, or that an older vidgen wrote without these columns."""
    found: dict[Path, list[tuple[str, ...]] | None] = {}
    for file in tables.listed(name):
        try:
            found[file] = rows_of(tables, file, columns)
        except VidgenError as error:
            _log.warning("%s", error)
            found[file] = None
    return found


def rows_of(tables: Tables, file: Path, columns: Sequence[str]) -> list[tuple[str, ...]] | None:
    """Rows of a file of any version; None where it has not all of the columns.

    Raises:
        VidgenError: The file is damaged; the message names it.

    """
    table = read(tables, file, columns)
    if not set(columns) <= set(table.column_names):
        return None
    return list(zip(*(table[column].to_pylist() for column in columns), strict=True))


def read(tables: Tables, file: Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of a file, wherever it is.

    Raises:
        VidgenError: The file is damaged; the message names it.

    """
    try:
        with tables.opened(file) as opened:
            return opened.read(columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise damaged(file, str(error)) from error
