"""Where checkpoints are kept: a folder that all workers share, or an object store, behind the same few functions."""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import pyarrow as pa
import pyarrow.fs

from vidgen_core.errors import VidgenError
from vidgen_core.weights import sync_folder, write_synced

__all__ = ["Bucket", "Folder", "Store", "store_at"]


class Store(Protocol):
    """Named bytes; a name is a path with slashes."""

    def names(self) -> list[str]:
        """All names there are, sorted."""

    def folders(self) -> set[str]:
        """First parts of names, and folders that are empty."""

    def read(self, name: str) -> bytes:
        """All bytes of a name; FileNotFoundError where there are none."""

    def read_range(self, name: str, start: int, count: int) -> bytes:
        """Some bytes of a name."""

    def writing(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A context with a stream to write; after it the bytes outlive a loss of power."""

    def put(self, name: str, content: bytes) -> None:
        """Write a small thing whole: a reader meets what was there before, or all of it."""

    def remove(self, folder: str, first: str) -> None:
        """Remove a folder, beginning with one name in it, so that a kill leaves no folder that looks whole."""


def store_at(place: str | Path) -> Store:
    """The store at a folder, or at an address such as s3://bucket/folder.

    Raises:
        VidgenError: Nothing here can open such an address.

    """
    text = str(place)
    if "://" not in text:
        return Folder(Path(text))
    try:
        system, folder = pyarrow.fs.FileSystem.from_uri(text)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise VidgenError(
            "There is no store at this address",
            got=f"{text}: {error}",
            allowed="a folder, or an address that begins with file, s3, gs, abfs or hdfs",
            move="Check training.checkpoint_uri and the credentials of its store",
        ) from error
    return Folder(Path(folder)) if system.type_name == "local" else Bucket(system, folder)


class Folder:
    """A folder of a file system."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """All names there are, sorted."""
        # Unlike a glob, a walk does not mind a folder that somebody removes meanwhile.
        found = (Path(place) / name for place, _, names in os.walk(self._folder) for name in names)
        return sorted(file.relative_to(self._folder).as_posix() for file in found)

    def folders(self) -> set[str]:
        """Folders, empty ones too."""
        return {place.name for place in self._folder.iterdir()} if self._folder.is_dir() else set()

    def read(self, name: str) -> bytes:
        """All bytes of a name."""
        return (self._folder / name).read_bytes()

    def read_range(self, name: str, start: int, count: int) -> bytes:
        """Some bytes of a name."""
        with (self._folder / name).open("rb") as stream:
            stream.seek(start)
            return stream.read(count)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A stream to write."""
        file = self._folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        sync_folder(file.parent)

    def put(self, name: str, content: bytes) -> None:
        """Write a small thing whole."""
        file = self._folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        staged = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            write_synced(staged, content)
            staged.replace(file)
        finally:
            staged.unlink(missing_ok=True)
        sync_folder(file.parent)

    def remove(self, folder: str, first: str) -> None:
        """Remove a folder, beginning with one name in it."""
        (self._folder / folder / first).unlink(missing_ok=True)
        shutil.rmtree(self._folder / folder, ignore_errors=True)


class Bucket:
    """A folder of an object store: an object is there when it was written whole, and nothing can be renamed.

    Args:
        system: The file system.
        folder: Bucket and folder.

    """

    def __init__(self, system: pyarrow.fs.FileSystem, folder: str) -> None:
        self._system, self._folder = system, folder.rstrip("/")

    def names(self) -> list[str]:
        """All names there are, sorted."""
        selector = pyarrow.fs.FileSelector(self._folder, allow_not_found=True, recursive=True)
        found = [info.path for info in self._system.get_file_info(selector) if info.type == pyarrow.fs.FileType.File]
        return sorted(path.removeprefix(f"{self._folder}/") for path in found)

    def folders(self) -> set[str]:
        """First parts of names."""
        return {name.partition("/")[0] for name in self.names()}

    def read(self, name: str) -> bytes:
        """All bytes of a name."""
        with self._system.open_input_stream(self._path(name)) as stream:
            return stream.read()

    def read_range(self, name: str, start: int, count: int) -> bytes:
        """Some bytes of a name."""
        with self._system.open_input_file(self._path(name)) as stream:
            return stream.read_at(count, start)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A stream to write."""
        # Stores know no folders; systems that do need theirs.
        self._system.create_dir(self._path(name).rpartition("/")[0], recursive=True)
        with self._system.open_output_stream(self._path(name)) as stream:
            yield stream

    def put(self, name: str, content: bytes) -> None:
        """Write a small thing whole."""
        with self.writing(name) as stream:
            stream.write(content)

    def remove(self, folder: str, first: str) -> None:
        """Remove a folder, beginning with one name in it."""
        for name in sorted(self.names(), key=lambda name: name != f"{folder}/{first}"):
            if name.startswith(f"{folder}/"):
                self._system.delete_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"
