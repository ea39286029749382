"""Where the Parquet files of tables lie: a folder, or a place elsewhere with a folder of copies on this machine.

A file is named after the key of its content and never changes, so a copy is as good as the file. Small files are copied
whole when they are read; of large ones only the columns that are asked for are brought, unless somebody maps them.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.dataset as pa_dataset
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_prep import row_digests
from data_prep.parts import whole
from data_prep.storage import Lost, Place
from vidgen_core.errors import VidgenError

__all__ = ["WHOLE_BYTES", "Folder", "Mirror"]

_THREADS = 8
WHOLE_BYTES = 4 * 2**20
_SCARCE_BYTES = 10 * 2**30


@dataclass(frozen=True)
class Folder:
    """Tables on this machine.

    Attributes:
        root: A folder a table below it.

    """

    root: Path

    def delta(self, name: str) -> tuple[str, dict[str, str] | None]:
        """A table's address and what deltalake is told of it."""
        return str(self.root / name), None

    def errors(self) -> AbstractContextManager[None]:
        """What goes wrong between becomes a sentence where it is a store's fault."""
        return nullcontext()

    def begin(self, name: str) -> None:
        """Before the first commit of a table."""
        (self.root / name).mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        """Every table there is."""
        return sorted(log.parent.relative_to(self.root).as_posix() for log in self.root.rglob("_delta_log"))

    def stored(self, name: str) -> list[Path]:
        """A table's files of all versions, and what killed runs left of files."""
        return sorted([*(self.root / name).glob("*.parquet"), *(self.root / name).glob("*.tmp")])

    def there(self, file: Path) -> bool:
        """Whether a file of a table is still there."""
        return file.exists()

    def size_bytes(self, file: Path) -> int:
        """Size of a file of a table."""
        return file.stat().st_size

    def fetch(self, sizes: Mapping[Path, int], *, most_bytes: int | None = None) -> list[Path]:
        """Copy files of the given sizes to this machine, up to `most_bytes` each; those that are there then."""
        del most_bytes
        return sorted(sizes)

    @contextmanager
    def open(self, file: Path) -> Iterator[pq.ParquetFile]:
        """A file to read columns from."""
        with pq.ParquetFile(file) as opened:
            yield opened

    def keep(self, file: Path) -> None:
        """Take a file that was written on this machine."""

    def delete(self, file: Path) -> None:
        """Remove a file of a table for good."""
        file.unlink()

    def discard(self, files: Sequence[Path]) -> None:
        """The current version does not have these files any more."""

    def tidy(self, current: Mapping[str, set[Path]]) -> None:
        """The current versions, by table, have no other files than these."""

    def row_digests(self, file: Path) -> NDArray[np.uint8]:
        """The digest of each row of a file, [N, 32]."""
        with self.open(file) as opened:
            return row_digests.in_file(opened)

    def dataset(self, files: Sequence[Path]) -> pa_dataset.Dataset | None:
        """The files to DuckDB, where it cannot read them itself."""
        del files
        return None


@dataclass(frozen=True)
class Mirror(Folder):
    """Tables elsewhere; `root` has copies of their files, after a run at most half of what the disk has room for.

    Attributes:
        place: Where they are.
        most_bytes: Together at most so many after a run, instead.

    """

    place: Place
    most_bytes: int = 0

    def delta(self, name: str) -> tuple[str, dict[str, str] | None]:
        """See `Folder`."""
        return f"{self.place.uri}/{name}", self.place.delta_options()

    def errors(self) -> AbstractContextManager[None]:
        """See `Folder`."""
        return self.place.errors()

    def begin(self, name: str) -> None:
        """See `Folder`."""

    def names(self) -> list[str]:
        """See `Folder`; a name has at most one slash."""
        found = []
        for above in self.place.names(folders=True):
            inner = self.place.names(above, folders=True)
            found += [above] if "_delta_log" in inner else [
                f"{above}/{name}" for name in inner if "_delta_log" in self.place.names(f"{above}/{name}", folders=True)
            ]  # fmt: skip
        return sorted(found)

    def stored(self, name: str) -> list[Path]:
        """See `Folder`."""
        elsewhere = {self.root / name / one for one in self.place.names(name) if one.endswith(".parquet")}
        return sorted(elsewhere.union(super().stored(name)))

    def there(self, file: Path) -> bool:
        """See `Folder`."""
        return self.place.size_bytes(self._path(file)) is not None

    def size_bytes(self, file: Path) -> int:
        """See `Folder`."""
        return file.stat().st_size if file.exists() else self.place.size_bytes(self._path(file)) or 0

    def fetch(self, sizes: Mapping[Path, int], *, most_bytes: int | None = None) -> list[Path]:
        """See `Folder`.

        Raises:
            VidgenError: The disk has no room for them, or the place has not all of them.

        """
        wanted = {file: size for file, size in sizes.items() if most_bytes is None or size <= most_bytes}
        missing = [file for file, size in wanted.items() if not _has(file, size)]
        if missing:
            self.root.mkdir(parents=True, exist_ok=True)
            size, free = sum(wanted[file] for file in missing), shutil.disk_usage(self.root).free
            if size > free:
                raise VidgenError(
                    f"The disk of {self.root} has no room for copies of {len(missing)} files of {self.place.uri}",
                    got=f"{free / 1e9:.1f} GB are free",
                    allowed=f"{size / 1e9:.1f} GB",
                    move="Free some space there, or choose another --home",
                )
            with ThreadPoolExecutor(_THREADS) as threads:
                list(threads.map(self._bring, missing))
        here = [file for file, size in sizes.items() if file in wanted or _has(file, size)]
        for file in here:
            os.utime(file)
        return sorted(here)

    @contextmanager
    def open(self, file: Path) -> Iterator[pq.ParquetFile]:
        """See `Folder`."""
        if file.exists():
            with super().open(file) as opened:
                yield opened
            return
        with self.place.open(self._path(file)) as stream, pq.ParquetFile(stream, pre_buffer=True) as opened:
            yield opened

    def keep(self, file: Path) -> None:
        """See `Folder`; its copy stays where there is room for it."""
        self.place.put(file, self._path(file))
        size = file.stat().st_size
        if size > WHOLE_BYTES and shutil.disk_usage(self.root).free < _SCARCE_BYTES:
            file.unlink()

    def delete(self, file: Path) -> None:
        """See `Folder`."""
        self.place.delete(self._path(file))
        self.discard([file])

    def discard(self, files: Sequence[Path]) -> None:
        """See `Folder`."""
        for file in files:
            file.unlink(missing_ok=True)
            _digests_file(file).unlink(missing_ok=True)

    def tidy(self, current: Mapping[str, set[Path]]) -> None:
        """See `Folder`."""
        for name, files in current.items():
            self.discard([file for file in super().stored(name) if file not in files])
        states = sorted((file.stat().st_mtime, file.stat().st_size, file) for file in self.root.rglob("part-*.parquet"))
        held = sum(size for _, size, _ in states)
        most = self.most_bytes or (shutil.disk_usage(self.root).free + held) // 2 if states else 0
        for _, size, file in states:
            if held <= most:
                return
            file.unlink(missing_ok=True)
            held -= size

    def row_digests(self, file: Path) -> NDArray[np.uint8]:
        """See `Folder`; a file is asked once for them."""
        beside = _digests_file(file)
        if beside.exists():
            return row_digests.of_bytes(beside.read_bytes())
        found = super().row_digests(file)
        with whole(beside) as stream:
            stream.write(found.tobytes())
        return found

    def dataset(self, files: Sequence[Path]) -> pa_dataset.Dataset | None:
        """See `Folder`."""
        here = [str(file) for file in files if file.exists()]
        system, root = self.place.arrow()
        away = [f"{root}/{self._path(file)}" for file in files if not file.exists()]
        parts = [pa_dataset.dataset(here, format="parquet")] if here else []
        parts += [pa_dataset.dataset(away, format="parquet", filesystem=system)] if away else []
        return parts[0] if len(parts) == 1 else pa_dataset.dataset(parts)

    def _path(self, file: Path) -> str:
        return file.relative_to(self.root).as_posix()

    def _bring(self, file: Path) -> None:
        try:
            self.place.fetch(self._path(file), file)
        except Lost as lost:
            raise VidgenError(
                f"A file of the tables cannot be read: {lost.message}",
                got=f"{self.place.uri}/{self._path(file)}",
                move="Give the same command again; if the file is gone, remove its table and prepare it again",
            ) from lost


def _has(file: Path, size_bytes: int) -> bool:
    try:
        return file.stat().st_size == size_bytes
    except FileNotFoundError:
        return False


def _digests_file(file: Path) -> Path:
    return file.with_suffix(".rows")
