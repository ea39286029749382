"""Which files are sources: listing a folder, and the digest of a file's bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidgen_core import digests
from vidgen_core.errors import VidgenError

__all__ = ["Source", "list_files", "identify"]

# Everything that may hold video (and sound files, so that one is rejected with a reason and not passed over).
_MEDIA = frozenset(
    [
        "3g2",
        "3gp",
        "asf",
        "avi",
        "f4v",
        "flv",
        "gif",
        "h264",
        "hevc",
        "ivf",
        "m2ts",
        "m2v",
        "m4v",
        "mjpeg",
        "mkv",
        "mov",
    ]
    + ["mp4", "mpeg", "mpg", "mts", "mxf", "nut", "obu", "ogg", "ogv", "qt", "rm", "rmvb", "ts", "vob", "webm", "wmv"]
    + ["y4m", "aac", "flac", "m4a", "mp3", "opus", "wav"]
)


@dataclass(frozen=True)
class Source:
    """A file and its content id.

    Attributes:
        source_id: Digest of its bytes.
        uri: Its path below the videos folder, with slashes.
        file: Where it is.

    """

    source_id: str
    uri: str
    file: Path


def list_files(videos: Path) -> list[Path]:
    """Media files below a folder, sorted; hidden ones are passed over.

    Raises:
        VidgenError: There is no such folder, or nothing in it is media.

    """
    if not videos.is_dir():
        raise VidgenError("There is no such folder of videos", got=str(videos), move="Check --videos")
    everything = [file for file in videos.rglob("*") if file.is_file() and not file.name.startswith(".")]
    files = sorted(file for file in everything if file.suffix.lower().lstrip(".") in _MEDIA)
    if not files:
        what = "The folder is empty" if not everything else f"None of the folder's {len(everything)} files is a video"
        raise VidgenError(
            what,
            got=str(videos),
            move="Put videos there, name another folder with --videos, or make sample videos with `vidgen videos make`",
        )
    return files


def identify(files: Sequence[Path], videos: Path) -> list[Source]:
    """The files with their content ids, in their order."""
    return [Source(digests.of_file(file, 32), file.relative_to(videos).as_posix(), file) for file in files]
