"""`vidgen vacuum`: files that no version of the tables needs any more leave the disk."""

import json
import time

from data_prep.tables import Release
from data_prep.vacuum import Freed, vacuum
from flows.commands.text import aligned
from flows.home import Home
from vidgen_core.errors import VidgenError

__all__ = ["kept_releases", "vacuum_tables"]

_DAY_S = 86400.0


def vacuum_tables(home: Home, *, keep_days: float, dry_run: bool, as_json: bool) -> str:
    """Remove what left the tables long ago; what was done as text.

    Args:
        home: Whose tables; nobody works in it meanwhile.
        keep_days: Versions and releases of the last so many days stay readable.
        dry_run: Only tell.
        as_json: As JSON instead.

    Raises:
        VidgenError: Another run works in the home, or the days are negative.

    """
    if keep_days < 0:
        raise VidgenError("The days to keep cannot be negative", got=f"{keep_days:g}", allowed="0 and more")
    with home.lock(), home.lock("stage"):
        tables = home.tables()
        kept = kept_releases(home, keep_days)
        freed = vacuum(tables, kept, keep_days=keep_days, dry_run=dry_run)
        if not dry_run:
            tables.tidy()
    return _json(freed, kept, dry_run) if as_json else _told(freed, kept, dry_run)


def kept_releases(home: Home, keep_days: float) -> list[Release]:
    """Releases that are young, or that a registered model version learned from; others need not stay readable."""
    kept, learned = [], _learned_from(home)
    for file in sorted(home.releases_dir.glob("*.json")):
        release = Release.model_validate_json(file.read_text())
        young = time.time() - file.stat().st_mtime <= keep_days * _DAY_S
        if young or release.digest in learned:
            kept.append(release)
    return kept


def _learned_from(home: Home) -> set[str]:
    """Releases of the home that registered versions learned from, asked for at once."""
    if not home.has_registry:
        return set()
    from vidgen_core.registry.models import trained_on

    digests = [file.stem for file in home.releases_dir.glob("*.json")]
    return {one.release for one in trained_on(home.mlflow_uri, digests)}


def _json(freed: list[Freed], kept: list[Release], dry_run: bool) -> str:
    told = {
        "freed_bytes": sum(one.file_bytes for one in freed),
        "dry_run": dry_run,
        "kept_releases": [release.digest for release in kept],
        "tables": [one.model_dump(mode="json") for one in freed],
    }
    return json.dumps(told, indent=1)


def _told(freed: list[Freed], kept: list[Release], dry_run: bool) -> str:
    rows: list[tuple[str | int, ...]] = [("table", "files", "MB")]
    rows += [(one.table, one.files, f"{one.file_bytes / 1e6:,.1f}") for one in freed if one.files]
    files, size = sum(one.files for one in freed), sum(one.file_bytes for one in freed)
    done = "would be removed" if dry_run else "removed"
    said = f"{files:,} files {done}, {size / 1e6:,.1f} MB freed; {len(kept)} releases stay readable."
    notes = [f"{one.table}: {one.note}" for one in freed if one.note]
    return "\n".join([*([aligned(rows)] if files else []), *notes, said])
