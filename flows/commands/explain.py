"""`vidgen explain`: what became of a clip, a source or a file, and why."""

import json
from typing import Any

from data_prep.explain import ClipStory, SourceStory, explain_clip, explain_source
from data_prep.lineage import find
from data_prep.settings import DataSettings
from flows.commands.lineage import Seen, seen_by
from flows.commands.text import aligned
from flows.home import Home
from vidgen_core.licenses import UNKNOWN

__all__ = ["explain"]

_RIGHTS = ("license", "stated", "license_origin", "attribution", "url")
_WHERE = {"jsonl": "captions.jsonl", "info.json": "NAME.info.json"}


def explain(home: Home, what: str, settings: DataSettings, *, as_json: bool) -> str:
    """The story as text.

    Raises:
        VidgenError: The tables know nothing of this name.

    """
    tables = home.tables()
    named = find(tables, what)
    seen = seen_by(home, named)
    if named.column == "clip_id":
        story: ClipStory | SourceStory = explain_clip(tables, named.value, settings)
    else:
        story = explain_source(tables, named.value)
    if as_json:
        told = story.model_dump(mode="json") | {"releases": seen.releases, "models": [*map(str, seen.versions)]}
        return json.dumps(told | {"models_unknown": [*map(str, seen.unknown)]}, indent=1)
    lines = _clip(story) if isinstance(story, ClipStory) else _source(story)
    return "\n".join([*lines, *_models(seen)])


def _clip(story: ClipStory) -> list[str]:
    span, source = story.span, story.source
    crop = "{crop_w}x{crop_h}+{crop_x}+{crop_y}".format_map(span)
    verdict = "kept" if story.dropped_by is None else f"dropped by {story.dropped_by.sentence()}"
    rows: list[tuple[str, str]] = [
        ("clip", story.clip_id),
        ("source", f"{source['uri']} ({source['source_id']})"),
        ("span", f"shot {span['shot']}, {span['start_s']:.3f} to {span['stop_s']:.3f} s, "
                 f"ticks {span['start_pts']} to {span['stop_pts']} of {span['time_base']} s, crop {crop}"),
        ("license", _license(source)),
        ("shape", span["shape"]),
        ("split", story.split),
        ("verdict", verdict),
    ]  # fmt: skip
    if story.reject and story.reject["stage"] != "select":
        rows.append(("lost", f"{story.reject['stage']}: {story.reject['message']}"))
    elif bool(story.media) != (story.dropped_by is None):
        rows.append(("", "The tables were made with other settings: run vidgen prepare to bring them up to date"))
    rows += [("caption", f"{text} ({origin})") for text, origin in story.captions] or [("caption", "none")]
    rows.append(("stages", _versions(story.versions)))
    rows.append(("media", "{file} sha256 {sha256}".format_map(story.media) if story.media else "none"))
    rows += [("sound", story.media["sound"])] if "sound" in story.media else []
    words = {True: "pass", False: "FAIL", None: "off"}
    checks = [("rule", "score", "threshold", "")]
    checks += [(check.rule, check.value, check.threshold, words[check.passed]) for check in story.checks]  # type: ignore[misc]
    return [_pairs(rows), "", aligned(checks), ""]


def _source(story: SourceStory) -> list[str]:
    rows = [("source", story.source_id)]
    rows += [(name, str(value)) for name, value in story.source.items() if name not in ("source_id", *_RIGHTS)]
    rows += [("license", _license(story.source))] if story.source else []
    for lost in story.rejects:
        told = lost.get("message") or f"taken down on {lost.get('day')}"
        rows.append(("file", f"{lost['uri']}: {lost.get('reason', 'forgotten')}: {told}"))
    rows.append(("stages", _versions(story.versions)))
    rows += [(fate, f"{count} clips") for fate, count in story.counts.items()]
    lines = [_pairs(rows), ""]
    if story.clips:
        names = ("clip_id", "start_s", "stop_s", "fate")
        lines += [aligned([names, *(tuple(clip[name] for name in names) for clip in story.clips)]), ""]
    return lines


def _license(source: dict[str, Any]) -> str:
    """What is said of the right to use a source."""
    stated, attribution, url = (source.get(name) for name in ("stated", "attribution", "url"))
    told = [
        f"stated as {stated!r} in {_WHERE[source['license_origin']]}" if stated else "",
        f"attribution: {attribution}" if attribution else "",
        url or "",
    ]
    return "; ".join(filter(None, [source.get("license") or UNKNOWN, *told]))


def _models(seen: Seen) -> list[str]:
    rows = [("seen by", str(version)) for version in seen.versions] or [("seen by", "no registered model version")]
    rows += [("unknown", f"{version}: files of its data release are gone") for version in seen.unknown]
    return [_pairs(rows)]


def _versions(versions: dict[str, int | str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or "unknown"


def _pairs(rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in rows)
