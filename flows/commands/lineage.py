"""Which registered model versions saw a clip or a source."""

from typing import NamedTuple

from data_prep.lineage import Named, read_releases, saw
from flows.home import Home

__all__ = ["Seen", "seen_by"]


class Seen(NamedTuple):
    """Who learned from something.

    Attributes:
        releases: Digests of the data releases that had it.
        versions: Registered versions that were trained on these, "name version 3 @champion".
        unknown: Versions of which it cannot be told any more, because files of their release are gone.

    """

    releases: list[str]
    versions: list[str]
    unknown: list[str]


def seen_by(home: Home, named: Named) -> Seen:
    """Ask the releases, and the registry where there is one; what a takedown noted counts too."""
    tables = home.tables()
    releases, unknown = saw(tables, read_releases(home.releases_dir), named)
    if named.column == "source_id":
        noted = {row["source_id"]: row["releases"].split() for row in tables.read("forgotten").to_pylist()}
        releases = sorted({*releases, *noted.get(named.value, [])})
    unknown = [digest for digest in unknown if digest not in releases]
    if not home.has_registry:
        return Seen(releases, [], [])
    from vidgen_core.registry.models import trained_on

    return Seen(releases, trained_on(home.mlflow_uri, releases), trained_on(home.mlflow_uri, unknown))
