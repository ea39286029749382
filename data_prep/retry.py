"""Dead letters: sources and cuts that failed, and asking for them to be tried again.

The asking is a row of `retries`, which makes the unit stale: whoever prepares next tries it again, also after a kill.
"""

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_prep.lineage import find
from data_prep.losses import is_error
from data_prep.tables import SCHEMAS, Tables
from vidgen_core.errors import VidgenError, did_you_mean

__all__ = ["ask_again", "dead_letters"]


def dead_letters(tables: Tables) -> list[dict[str, Any]]:
    """A row of `rejects` for each source and stage that errors took it from; copies and takedowns are no errors."""
    rows = tables.read("dead").to_pylist() if tables.files("dead") else []
    rejects = tables.read("rejects")
    later = rejects.filter(pc.and_(is_error(rejects), pc.not_equal(rejects["stage"], "analyze"))).to_pylist()
    letters: dict[tuple[str, str], dict[str, Any]] = {}
    # The most attempts of a source stand for it: it is tried again as a whole.
    for row in sorted([*rows, *later], key=lambda row: row["attempts"]):
        letters[row["source_id"], row["stage"]] = row
    return list(letters.values())


def ask_again(tables: Tables, *, reason: str | None = None, source: str | None = None) -> list[dict[str, Any]]:
    """Mark dead letters for another try, with the attempts that they have behind them.

    Args:
        tables: Where they are.
        reason: Only those lost for this reason.
        source: Only this source, by its id or its file.

    Raises:
        VidgenError: There is no such dead letter.

    """
    letters = dead_letters(tables)
    if not letters:
        raise VidgenError("There is nothing to try again: errors took no source")
    counts = Counter(letter["reason"] for letter in letters)
    if reason is not None and reason not in counts:
        known = ", ".join(f"{name} ({count})" for name, count in counts.most_common())
        raise VidgenError(f"Nothing was lost to {reason!r}", allowed=known, move=did_you_mean(reason, counts))
    chosen = [letter for letter in letters if reason in (None, letter["reason"])]
    if source is not None:
        wanted = find(tables, source, clips=False).value
        chosen = [letter for letter in chosen if letter["source_id"] == wanted]
        if not chosen:
            raise VidgenError(
                "Errors did not take this source", got=source, move="vidgen explain says what became of it"
            )
    tried = {(row["source_id"], row["stage"]): row["attempts"] for row in tables.read("retries").to_pylist()}
    tried |= {(letter["source_id"], letter["stage"]): letter["attempts"] for letter in chosen}
    rows = [{"source_id": key, "stage": stage, "attempts": count} for (key, stage), count in tried.items()]
    tables.replace("retries", pa.Table.from_pylist(rows, SCHEMAS["retries"]))
    return chosen
