"""Which files are sources: listing a folder, and the digest of a file's bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_prep.storage import Place, Stored
from vidgen_core import digests
from vidgen_core.errors import VidgenError

__all__ = ["Origin", "Source", "identify", "is_media", "list_files", "nothing_there"]

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
class Origin:
    """Where a source comes from that is not on this machine.

    Attributes:
        place: The place of the videos.
        stored: The object.
        beside: What may hold its captions, or its license.

    """

    place: Place
    stored: Stored
    beside: tuple[Stored, ...] = ()


@dataclass(frozen=True)
class Source:
    """A file and its content id.

    Attributes:
        source_id: Digest of its bytes.
        uri: Its path below the videos folder, with slashes.
        file: Where it is; with an origin, where it is while a task works on it.
        origin: Where it is fetched from.

    """

    source_id: str
    uri: str
    file: Path
    origin: Origin | None = None

    @property
    def size_bytes(self) -> int:
        """Its size."""
        return self.file.stat().st_size if self.origin is None else self.origin.stored.size_bytes


def is_media(name: str) -> bool:
    """Whether a file of this name may hold video; hidden ones are passed over."""
    path = PurePosixPath(name)
    return path.suffix.lower().lstrip(".") in _MEDIA and not path.name.startswith(".")


def list_files(videos: Path) -> list[Path]:
    """Media files below a folder, sorted; hidden ones are passed over.

    Raises:
        VidgenError: There is no such folder, or nothing in it is media.

    """
    if not videos.is_dir():
        raise VidgenError("There is no such folder of videos", got=str(videos), move="Check --videos")
    everything = [file for file in videos.rglob("*") if file.is_file() and not file.name.startswith(".")]
    files = sorted(file for file in everything if is_media(file.name))
    if not files:
        raise nothing_there(str(videos), len(everything))
    return files


def nothing_there(videos: str, files: int) -> VidgenError:
    """Why a place of videos with some files gives no source."""
    return VidgenError(
        f"None of the folder's {files} files is a video" if files else "The folder is empty",
        got=videos,
        move="Put videos there, name another folder with --videos, or make sample videos with `vidgen videos make`",
    )


def identify(files: Sequence[Path], videos: Path) -> list[Source]:
    """The files with their content ids, in their order."""
    return [Source(digests.of_file(file, 32), file.relative_to(videos).as_posix(), file) for file in files]
