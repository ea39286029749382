"""`vidgen retry`: dead letters are marked, and the latest preparation is run again."""

from collections.abc import Sequence
from typing import Any

from data_prep.retry import ask_again, dead_letters
from data_prep.tables import Tables
from flows.home import Home

__all__ = ["mark", "outcome"]


def mark(home: Home, reason: str | None, source: str | None) -> list[dict[str, Any]]:
    """Ask for another try; the dead letters that get one.

    Raises:
        VidgenError: There are none such.

    """
    with home.lock(), home.lock("stage"):
        return ask_again(Tables(home.tables_dir), reason=reason, source=source)


def outcome(home: Home, asked: Sequence[dict[str, Any]]) -> str:
    """What became of those that were tried again."""
    dead = {(letter["source_id"], letter["stage"]): letter for letter in dead_letters(Tables(home.tables_dir))}
    again = [dead[key] for letter in asked if (key := (letter["source_id"], letter["stage"])) in dead]
    lines = [f"{len(asked)} tried again, {len(asked) - len(again)} of them in order now"]
    lines += [f"{row['uri']}: {row['reason']} after {row['attempts']} attempts: {row['message']}" for row in again]
    return "\n".join(lines)
