"""Which clip, source or file somebody means, and which data releases saw it."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep.tables import Release, Tables
from vidgen_core import digests
from vidgen_core.errors import VidgenError, did_you_mean

__all__ = ["Named", "clips_of", "files_at", "find", "learned_from", "read_releases", "saw"]

_SHORTEST = 6  # characters of an id that may stand for it
_SHOWN = 5


class Named(NamedTuple):
    """A clip or a source.

    Attributes:
        column: "clip_id" or "source_id".
        value: The whole id.

    """

    column: str
    value: str


def find(tables: Tables, what: str, *, clips: bool = True) -> Named:
    """The clip or source that an id, its first characters, a path of a file or the end of one names.

    Args:
        tables: Where it is known.
        what: A clip's or a source's id, a file, or a file's name as the tables have it.
        clips: Whether it may be a clip.

    Raises:
        VidgenError: Nothing, or more than one thing, is called so.

    """
    sources = _sources(tables)
    if Path(what).is_file():
        digest = digests.of_file(Path(what), 32)
        if digest in sources:
            return Named("source_id", digest)
    named = [Named("source_id", key) for key in sources if _means(what, key)]
    if clips:
        ids = set(tables.read("spans", ["clip_id"])["clip_id"].to_pylist())
        named += [Named("clip_id", key) for key in ids if _means(what, key)]
    if not named:
        files = [key for key, uris in sources.items() if any(_ends(uri, what) for uri in uris)]
        named = [Named("source_id", key) for key in files]
    if len(named) == 1:
        return named[0]
    kinds = "clip, source or file" if clips else "source or file"
    if named:
        some = ", ".join(sorted(one.value for one in named)[:_SHOWN])
        raise VidgenError(f"More than one {kinds} is called so", got=what, allowed=some, move="Give more of the name")
    known = [uri for uris in sources.values() for uri in uris]
    move = did_you_mean(what, known) or 'vidgen query "select clip_id, uri from spans limit 10" shows what there is'
    raise VidgenError(f"The tables know no {kinds} of this name", got=what, move=move)


def read_releases(folder: Path) -> list[Release]:
    """Every data release of a home."""
    return [Release.model_validate_json(file.read_text()) for file in sorted(folder.glob("*.json"))]


def saw(tables: Tables, releases: Iterable[Release], named: Named) -> tuple[list[str], list[str]]:
    """Digests of the releases whose clips have it, and of those whose files are not all there any more to tell."""
    seen: list[str] = []
    unknown: list[str] = []
    answers: dict[Path, bool | None] = {
        tables.part_file("clips", unit): row["source_id"] == named.value
        for row in tables.read("forgotten").to_pylist()
        for unit in row["units"].split()
    }
    for release in releases:
        state = release.tables.get("clips")
        files = files_at(tables, "clips", state.version) if state is not None else []
        for file in files or []:
            if file not in answers:
                answers[file] = _has(tables, file, named)
        told = [None] if files is None else [answers[file] for file in files]
        if any(told):
            seen.append(release.digest)
        elif None in told:
            unknown.append(release.digest)
    return seen, unknown


def clips_of(tables: Tables, release: Release) -> tuple[list[dict[str, str]], int]:
    """Ids of the clips of a release with their source and split, sorted; and how many of its files are gone."""
    state = release.tables.get("clips")
    files = files_at(tables, "clips", state.version) if state is not None else []
    rows: list[dict[str, str]] = []
    gone = 0
    for file in files or []:
        if tables.there(file):
            with tables.opened(file) as opened:
                rows += opened.read(columns=["clip_id", "source_id", "split"]).to_pylist()
        else:
            gone += 1
    return sorted(rows, key=lambda row: row["clip_id"]), gone


def learned_from(tables: Tables, releases_dir: Path, digest: str, sources: Collection[str]) -> tuple[set[str], bool]:
    """Which of some sources have clips that whoever trains on a release learns from; and whether that is all.

    Args:
        tables: Those of the release.
        releases_dir: Where releases are kept.
        digest: Of the release.
        sources: Ids that are asked about.

    """
    file = releases_dir / f"{digest}.json"
    if not file.is_file():
        return set(), False
    clips, gone = clips_of(tables, Release.model_validate_json(file.read_text()))
    seen = {clip["source_id"] for clip in clips if clip["split"] != "held_out"}
    return seen & set(sources), bool(clips) and not gone


def files_at(tables: Tables, name: str, version: int) -> Sequence[Path] | None:
    """Files of a table at a version, None when the log does not reach back so far."""
    from deltalake.exceptions import DeltaError

    try:
        return list(tables.listed(name, version))
    except DeltaError:
        return None


def _sources(tables: Tables) -> dict[str, list[str]]:
    """Source -> names of its files, also of those that were lost or taken down."""
    found: dict[str, list[str]] = {}
    for name in ("sources", "dead", "rejects", "forgotten"):
        if tables.exists(name):
            rows = tables.read(name, ["source_id", "uri"])
            for key, uri in zip(rows["source_id"].to_pylist(), rows["uri"].to_pylist(), strict=True):
                names = found.setdefault(key, [])
                if uri not in names:
                    names.append(uri)
    return found


def _means(what: str, key: str) -> bool:
    return key == what or (len(what) >= _SHORTEST and key.startswith(what))


def _ends(uri: str, what: str) -> bool:
    return uri == what or uri.endswith("/" + what) or what.endswith("/" + uri)


def _has(tables: Tables, file: Path, named: Named) -> bool | None:
    if not tables.there(file):
        return None
    with tables.opened(file) as opened:
        return named.value in opened.read(columns=[named.column])[named.column].to_pylist()
