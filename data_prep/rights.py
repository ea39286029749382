"""What is said beside a video about the right to use it: its license, whom to name, and where it is from.

It is read from a line of a folder's list (`captions.jsonl`, see `captions`) with `license`, `attribution` or `url`, and
from `NAME.info.json`, as yt-dlp writes it beside `NAME.mp4`. Nothing is guessed: what nobody states is null. Neither
analysis nor clips nor latents hang on these facts, so that a license can be corrected and nothing is decoded again.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_prep.captions import listed
from data_prep.lineage import clips_of, files_at
from data_prep.sources import Source
from data_prep.tables import SCHEMAS, Release, Tables
from vidgen_core.licenses import UNKNOWN, spdx

__all__ = ["INFO", "RIGHTS", "count_licenses", "licenses_at", "licenses_of", "note_rights", "read_rights"]

RIGHTS = "rights"
INFO = ".info.json"
_OWN = ("stated", "license_origin", "attribution", "url")
# What is written there -> our column; of several the first that is there.
_LISTED = {"stated": ("license", "licence"), "attribution": ("attribution",), "url": ("url",)}
_INFO = {
    "stated": ("license",),
    "attribution": ("uploader", "channel", "creator"),
    "url": ("webpage_url", "original_url"),
}


def read_rights(video: Path) -> dict[str, str | None]:
    """License as SPDX has it and as it was stated, who stated it, attribution, address; {} where nothing is said.

    What the list states counts before what a downloader wrote.
    """
    name = video.resolve().as_posix()
    folders = (video.parent, video.parent.parent)
    rows = [
        *(("jsonl", listed(folder).get(name, {}), _LISTED) for folder in folders),
        ("info.json", _info(video), _INFO),
    ]
    told: dict[str, str] = {}
    for origin, row, names in rows:
        found = {column: text for column, keys in names.items() if (text := _text(row, keys))}
        told = found | ({"license_origin": origin} if "stated" in found else {}) | told
    return {"license": spdx(told.get("stated", "")), **{name: told.get(name) for name in _OWN}} if told else {}


def note_rights(sources: Iterable[Source], tables: Tables) -> None:
    """Make the table of rights say what lies beside the sources now; those that were taken down have none."""
    gone = set(tables.read("forgotten", ["source_id"])["source_id"].to_pylist())
    rows: dict[str, dict[str, str | None]] = {}
    for source in sources:
        # Of files with the same bytes the first one is the source, and what lies beside it counts.
        if source.source_id not in rows and source.source_id not in gone:
            rows[source.source_id] = read_rights(source.file)
    stated = [{"source_id": source_id, **row} for source_id, row in rows.items() if row]
    if stated or tables.exists(RIGHTS):
        tables.replace(RIGHTS, pa.Table.from_pylist(stated, SCHEMAS[RIGHTS]))


def licenses_of(tables: Tables) -> dict[str, str]:
    """Source -> its license; those of unknown license are left out."""
    return _known(tables.read(RIGHTS, ["source_id", "license"]))


def licenses_at(tables: Tables, release: Release) -> dict[str, str]:
    """Source -> its license as it is known now; for sources that are here no more, as the release has it."""
    known: dict[str, str] = {}
    if (state := release.tables.get(RIGHTS)) is not None:
        here = set(tables.read("sources", ["source_id"])["source_id"].to_pylist())
        for file in files_at(tables, RIGHTS, state.version) or ():
            if tables.there(file):
                with tables.opened(file) as opened:
                    known |= _known(opened.read(columns=["source_id", "license"]))
        known = {source_id: license_ for source_id, license_ in known.items() if source_id not in here}
    return known | licenses_of(tables)


def count_licenses(tables: Tables, release: Release) -> dict[str, int]:
    """License -> how many clips of a release have it as `licenses_at` knows it, the most frequent first.

    Clips whose files are gone, and with them their source's name, are of unknown license too.
    """
    clips, _ = clips_of(tables, release)
    known = licenses_at(tables, release)
    found = Counter(known.get(clip["source_id"], UNKNOWN) for clip in clips)
    found[UNKNOWN] += release.tables["clips"].rows - len(clips)
    return {name: count for name, count in sorted(found.items(), key=lambda one: (-one[1], one[0])) if count}


def _known(rows: pa.Table) -> dict[str, str]:
    told = zip(rows["source_id"].to_pylist(), rows["license"].to_pylist(), strict=True)
    return {source_id: license_ for source_id, license_ in told if license_ is not None}


def _info(video: Path) -> dict[str, Any]:
    """What a downloader wrote beside a video; a damaged file says nothing."""
    try:
        row = json.loads(video.with_suffix(INFO).read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _text(row: Mapping[str, Any], keys: Iterable[str]) -> str:
    """The first of some keys that has a text; what is no text states nothing."""
    texts = (" ".join(value.split()) for key in keys if isinstance(value := row.get(key), str))
    return next(filter(None, texts), "")
