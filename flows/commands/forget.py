"""`vidgen forget`: takedown of a source."""

import getpass
from collections.abc import Callable
from pathlib import Path

from data_prep.forget import contents, forget
from data_prep.lineage import find
from data_prep.tables import Tables
from flows.commands.lineage import seen_by
from flows.home import Home

__all__ = ["forget_source"]


def forget_source(home: Home, what: str, *, sure: Callable[[str], bool]) -> str:
    """Remove a source for good; what was done as text.

    Args:
        home: Whose tables; nobody works in it meanwhile.
        what: The source's id or file.
        sure: Asked with a description of what will go.

    Raises:
        VidgenError: There is no such source, or another run works in the home.

    """
    with home.lock(), home.lock("stage"):
        tables = home.tables()
        named = find(tables, what, clips=False)
        uri = _uri(tables, named.value)
        seen = seen_by(home, named)
        there = ", ".join(f"{count:,} rows of {name}" for name, count in contents(tables, named.value).items())
        if not sure(f"{uri} ({named.value}): {there or 'nothing is left in the tables'}. This cannot be undone."):
            return "Nothing was removed."
        if seen.versions:
            from vidgen_core.registry.promotion import block

            # Before anything is removed: a takedown that is stopped has blocked too much rather than too little.
            why = f"it learned from {uri}, which was taken down"
            block(home.mlflow_uri, seen.versions, why, who=getpass.getuser())
        removed = forget(tables, named.value, uri, seen.releases)
    rows = ", ".join(f"{count:,} rows of {name}" for name, count in removed.rows.items()) or "no rows were left"
    lines = [f"Removed {uri}: {rows}; {removed.files:,} files deleted, {removed.file_bytes / 1e6:.1f} MB."]
    lines.append("The next prepare passes over these bytes. The file itself, if you have it still, is yours to delete.")
    lines += [f"Learned from it, and is blocked until it is trained again: {version}" for version in seen.versions]
    lines += [
        f"A copy of {version} is at {place}; this blocks it there: vidgen release --copy-to {place} "
        f"--model {version.name}/{version.version}"
        for version in seen.versions
        for place in version.copies
    ]
    lines += [] if seen.versions else ["No registered model version saw it."]
    lines += [f"May have learned from it, files of its release are gone: {version}" for version in seen.unknown]
    lines += [f"May show its pictures: {place}" for place in _shown(home)] if seen.releases or seen.unknown else []
    return "\n".join(lines)


def _uri(tables: Tables, source_id: str) -> str:
    """The name of the source's file, as any table has it."""
    for name in ("sources", "dead", "rejects", "forgotten"):
        if tables.exists(name):
            files = tables.holding(name, "source_id", source_id)
            for row in tables.read(name, ["source_id", "uri"]).to_pylist() if files else []:
                if row["source_id"] == source_id:
                    return str(row["uri"])
    return source_id


def _shown(home: Home) -> list[Path]:
    """Pages and evaluation notes, which hold pictures of clips."""
    return sorted([*home.reports_dir.glob("*.html"), *home.runs_dir.glob("*/shown.npz")])
