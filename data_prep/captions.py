"""Captions that lie beside a video: timed cues, a text, or a line of a folder's list.

For `NAME.mp4`: `NAME.vtt` or `NAME.srt` (a cue is a span's caption when it covers it), `NAME.txt` (the whole video),
and `captions.jsonl` in the same folder or its parent, with {"file": path relative to the list, "caption": text} a line.
Lines of the list may tell more of a video: `rights` reads that.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vidgen_core import digests

__all__ = ["LIST", "SUFFIXES", "Cue", "Sidecar", "listed", "read_sidecar"]

SUFFIXES = ("vtt", "srt", "txt")
LIST = "captions.jsonl"

_TIMES = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{3})\s*-->\s*(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{3})")
_TAG = re.compile(r"<[^>]*>")
# Frames at a cue's border are rounded to milliseconds.
_SLACK_S = 0.05


@dataclass(frozen=True)
class Cue:
    """A caption for [start_s, stop_s)."""

    start_s: float
    stop_s: float
    text: str


@dataclass(frozen=True)
class Sidecar:
    """What lies beside one video.

    Attributes:
        origin: "vtt", "srt", "txt", "jsonl" or "none".
        cues: Timed captions.
        text: A caption of the whole video.

    """

    origin: str
    cues: tuple[Cue, ...] = ()
    text: str = ""

    @property
    def digest(self) -> str:
        """Of all of it."""
        return digests.of_value(repr(self))

    def caption(self, start_s: float, stop_s: float) -> str:
        """The caption of a span, "" when no cue covers it whole: half of a caption would be half wrong."""
        if not self.cues:
            return self.text
        covering = [c for c in self.cues if c.start_s <= start_s + _SLACK_S and c.stop_s >= stop_s - _SLACK_S]
        return " ".join(dict.fromkeys(cue.text for cue in covering))


def read_sidecar(video: Path) -> Sidecar:
    """The first of the kinds above that is there and not empty; bytes that are no UTF-8 are replaced."""
    kinds: dict[str, Callable[[str], Sidecar]] = {
        "vtt": lambda text: Sidecar("vtt", cues=_cues(text)),
        "srt": lambda text: Sidecar("srt", cues=_cues(text)),
        "txt": lambda text: Sidecar("txt", text=" ".join(text.split())),
    }
    for suffix in SUFFIXES:
        file = video.with_suffix(f".{suffix}")
        if file.is_file():
            sidecar = kinds[suffix](file.read_text(encoding="utf-8-sig", errors="replace"))
            if sidecar.cues or sidecar.text:
                return sidecar
    for folder in (video.parent, video.parent.parent):
        if text := " ".join(listed(folder).get(video.resolve().as_posix(), {}).get("caption", "").split()):
            return Sidecar("jsonl", text=text)
    return Sidecar("none")


def _cues(text: str) -> tuple[Cue, ...]:
    cues = []
    for block in re.split(r"\r?\n\s*\r?\n", text):
        found = _TIMES.search(block)
        if found:
            words = " ".join(_TAG.sub("", block[found.end() :].partition("\n")[2]).split())
            start_s, stop_s = _seconds(found.groups()[:4]), _seconds(found.groups()[4:])
            if words and stop_s > start_s:
                cues.append(Cue(start_s, stop_s, words))
    return tuple(cues)


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in parts)
    return 3600 * hours + 60 * minutes + seconds + milliseconds / 1000


def listed(folder: Path) -> dict[str, dict[str, str]]:
    """Absolute path of a video -> every text that lines of a folder's list have of it; of two the later one counts."""
    file = folder / LIST
    if not file.is_file():
        return {}
    state = file.stat()
    return _read_list(file, (state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=64)
def _read_list(file: Path, _stamp: tuple[int, int]) -> dict[str, dict[str, str]]:
    """A line that is no object with a file is passed over, and so is what is no text."""
    found: dict[str, dict[str, str]] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and isinstance(row.get("file"), str):
            texts = {name: value for name, value in row.items() if isinstance(value, str)}
            found.setdefault((file.parent / row["file"]).resolve().as_posix(), {}).update(texts)
    return found
