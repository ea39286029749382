"""From clips to the model versions that saw them, and from a version back to its clips."""

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from data_prep.lineage import Named, clips_of, read_releases, saw
from data_prep.rights import count_licenses, licenses_at
from data_prep.tables import Release
from flows.commands.text import aligned
from flows.home import Home
from vidgen_core.licenses import UNKNOWN

if TYPE_CHECKING:
    from vidgen_core.registry.models import Version

__all__ = ["Seen", "lineage", "seen_by"]

_SHOWN = 8


class Seen(NamedTuple):
    """Who learned from something.

    Attributes:
        releases: Digests of the data releases that had it.
        versions: Registered versions that were trained on these.
        unknown: Versions of which it cannot be told any more, because files of their release are gone.

    """

    releases: list[str]
    versions: "list[Version]"
    unknown: "list[Version]"


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


def lineage(home: Home, model: str, *, as_json: bool) -> str:
    """From a version's name to its run, its data release and its clips, and what the journal says of it.

    Args:
        home: Whose registry and tables.
        model: `name@alias` or `name/number`.
        as_json: With the ids of all clips and sources.

    Raises:
        VidgenError: There is no such version.

    """
    told = _told(home, model)
    if as_json:
        return json.dumps(told, indent=1)
    release, clips = told["release"], told["clips"]
    rows: list[tuple[str, str]] = [
        ("version", f"{told['name']} version {told['version']}" + "".join(f" @{alias}" for alias in told["aliases"])),
        ("model", told["model"]),
        *([("blocked", told["blocked"])] if told["blocked"] else []),
        ("recipe", told["run"]["recipe"]),
        ("run", told["run"]["key"]),
        ("MLflow run", told["run"]["mlflow"]),
        ("release", release["digest"]),
        *((name, f"version {state['version']}, {state['rows']:,} rows") for name, state in release["tables"].items()),
        ("clips", f"{len(clips)} from {len({clip['source_id'] for clip in clips})} sources"),
        *(("license", f"{name}: {count} clips") for name, count in told["licenses"].items()),
        *((one["clip_id"], f"of {one['source_id']}, {one['split']}, {one['license'] or UNKNOWN}")
          for one in clips[:_SHOWN]),
        *([("...", "--json has all of them")] if len(clips) > _SHOWN else []),
        *([("gone", f"{release['files_gone']} files of it, with their clips")] if release["files_gone"] else []),
        *((f"journal {one['number']}", text)
          for one in told["journal"] for text in (f"{one['action']} by {one['who']}", *one["reasons"])),
    ]  # fmt: skip
    return aligned(rows)


def _told(home: Home, model: str) -> dict[str, Any]:
    from vidgen_core.registry.journal import read
    from vidgen_core.registry.models import version_of
    from vidgen_core.registry.tracking import client

    version, tables = version_of(home.mlflow_uri, model), home.tables()
    file = home.releases_dir / f"{version.release}.json"
    release = Release.model_validate_json(file.read_text()) if file.is_file() else None
    clips, gone = clips_of(tables, release) if release else ([], 0)
    licenses = licenses_at(tables, release) if release else {}
    return {
        **version.model_dump(include={"name", "version", "aliases", "model", "blocked", "logged_model"}),
        "run": {
            "mlflow": version.run_id,
            "key": version.tags.get("vidgen.run_key", ""),
            "recipe": version.tags.get("vidgen.recipe", ""),
        },
        "release": {
            "digest": version.release,
            "tables": {name: state.model_dump() for name, state in release.tables.items()} if release else {},
            "files_gone": gone,
        },
        "licenses": count_licenses(tables, release) if release else {},
        "clips": [clip | {"license": licenses.get(clip["source_id"])} for clip in clips],
        "journal": [
            entry.model_dump() for entry in read(client(home.mlflow_uri), version.name) if entry.to == version.version
        ],
    }
