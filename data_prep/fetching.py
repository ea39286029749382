"""Sources that lie elsewhere: found by listing, known by their stamps, on this machine only while tasks work on them.

Which bytes an object holds is remembered under its address, size and stamp in the table `objects`, so that it is not
brought again to be told. A task gets the object as a file in a folder of its machine, which holds as much as half of
the disk has room for: what was used longest ago leaves first, and all of it when the run ends. What lies beside a
video and may hold captions or its license is small, and stays.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from data_prep.captions import LIST, SUFFIXES
from data_prep.ledger import Ledger
from data_prep.losses import FETCH
from data_prep.rights import INFO
from data_prep.run import UNFETCHED, Failure, Runner
from data_prep.sources import Origin, Source, identify, is_media, list_files, nothing_there
from data_prep.storage import Lost, Place, Stored, place_of
from data_prep.tables import Tables
from data_prep.units import dead_row, tries
from vidgen_core import digests
from vidgen_core.errors import VidgenError

__all__ = ["Came", "Fetching", "Scratch", "at_hand", "check_videos", "find", "foresee"]

Item = TypeVar("Item")
Result = TypeVar("Result")

OBJECTS = "objects"
_THREADS = 8
_SLOWEST_BYTES_S = 2**20
_NAME_BYTES = 255
# What one of so many processes of a machine may bring before it looks through the folder again.
_PROCESSES = 64
_spare_bytes: dict[Path, int] = {}


@dataclass(frozen=True)
class Scratch:
    """Files of objects on this machine; a task holds one while it works on it.

    Attributes:
        folder: Where they lie, at the objects' paths.
        most_bytes: Together at most so many; 0 for half of what the disk has room for.

    """

    folder: Path
    most_bytes: int = 0

    @contextmanager
    def holding(self, origin: Origin) -> Iterator[Path]:
        """The object as a file, with what lies beside it, until the block ends.

        Raises:
            Lost: It cannot be had.

        """
        file = self.folder / origin.stored.path
        with self._locked(origin.stored.path):
            if not _is_current(file, origin.stored):
                self._make_room(origin.stored.size_bytes)
            self.bring(origin.place, origin.stored)
            os.utime(file)
            for stored in origin.beside:
                self.bring(origin.place, stored)
            yield file

    def bring(self, place: Place, stored: Stored) -> None:
        """Fetch an object unless this writing of it is there."""
        file = self.folder / stored.path
        if not _is_current(file, stored):
            _stamp_file(file).unlink(missing_ok=True)
            place.fetch(stored.path, file, stored.stamp)
            _stamp_file(file).write_text(stored.stamp)

    def clear(self) -> None:
        """Remove what tasks have left; captions stay."""
        for file in self._media():
            _remove(file)
        shutil.rmtree(self._locks, ignore_errors=True)

    @property
    def _locks(self) -> Path:
        return self.folder / ".locks"

    @contextmanager
    def _locked(self, path: str) -> Iterator[None]:
        self._locks.mkdir(parents=True, exist_ok=True)
        with (self._locks / digests.of_value(path, 32)).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _media(self) -> list[Path]:
        return [file for file in self.folder.rglob("*") if is_media(file.name) and file.is_file()]

    def _make_room(self, size_bytes: int) -> None:
        """Remove files that nobody holds, those used longest ago first; the folder is looked through now and then."""
        disk, left = shutil.disk_usage(self.folder), _spare_bytes.get(self.folder, 0) - size_bytes
        if left >= 0 or (not self.most_bytes and disk.used + 2 * size_bytes <= disk.free):  # used >= held
            _spare_bytes[self.folder] = max(left, 0)
            return
        there = [(state.st_mtime_ns, state.st_size, file) for file in self._media() if (state := _state(file))]
        held = sum(size for _, size, _ in there)
        most = self.most_bytes or (disk.free + held) // 2
        wanted = most if held + size_bytes <= most else most - most // 10
        for _, size, file in sorted(there):
            if held + size_bytes <= wanted:
                break
            lock = self._locks / digests.of_value(file.relative_to(self.folder).as_posix(), 32)
            with lock.open("w") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                _remove(file)
                held -= size
        _spare_bytes[self.folder] = max(0, most - held - size_bytes) // _PROCESSES


@dataclass(frozen=True)
class Fetching:
    """A runner whose tasks find the source of their item on their machine.

    Attributes:
        runner: Who runs them.
        scratch: Where the sources are meanwhile.

    """

    runner: Runner
    scratch: Scratch

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item], *, deadline_s: float = 3600.0
    ) -> Iterator[tuple[Item, Result | Failure]]:
        """See `Runner`; a source that cannot be had is a failure of its item. Fetching has time of its own."""
        sizes = [source.size_bytes for item in items if (source := _source_of(item))]
        slack_s = max(sizes, default=0) / _SLOWEST_BYTES_S
        work = partial(_with_source, function=function, scratch=self.scratch)
        yield from self.runner.map(work, items, deadline_s=deadline_s + slack_s)


@dataclass(frozen=True)
class Came:
    """The sources of a place.

    Attributes:
        sources: By their names.
        lost: Rows of `rejects` for what could not be had.
        runner: Its tasks have the sources at hand.
        scratch: What they leave behind; None for sources of this machine.

    """

    sources: list[Source]
    lost: list[dict[str, Any]]
    runner: Runner
    scratch: Scratch | None = None

    def clear(self) -> None:
        """Remove from this machine what the tasks have left."""
        if self.scratch is not None:
            self.scratch.clear()


def check_videos(videos: Path | str) -> None:
    """Look at once whether there is anything.

    Raises:
        VidgenError: There is no such place, or it holds no video.

    """
    where = place_of(videos)
    if isinstance(where, Path):
        list_files(where)
    else:
        where.check()


def find(videos: Path | str, tables: Tables, runner: Runner, *, most_bytes: int = 0) -> Came:
    """The sources of a folder or a place, with their content ids; only objects that are not known are fetched.

    Raises:
        VidgenError: There is no such place, it cannot be used, or it holds no video.

    """
    where = place_of(videos)
    if isinstance(where, Path):
        return Came(identify(list_files(where), where), [], runner)
    scratch = Scratch(_folder(where, tables), most_bytes)
    origins, lost = _usable(_listed(where))
    lost += _bring_beside(origins, scratch)
    gone = {row["uri"] for row in lost}
    origins = [origin for origin in origins if origin.stored.path not in gone]
    memory = Ledger(tables, OBJECTS, lambda _row: 0)
    known = {key: row["source_id"] for key, row in memory.rows().items()}
    new = [origin for origin in origins if _key(origin) not in known]
    digest = partial(_digest, scratch=scratch)
    for origin, result in runner.map(digest, new, deadline_s=_deadline_s(new)):
        if isinstance(result, Failure):
            lost.append(_lost(origin.stored.path, result.message, result.attempts))
        else:
            known[_key(origin)] = result
            memory.add([_memory_row(origin, result)])
    memory.flush()
    before = tries(tables, FETCH)
    lost = [row | {"attempts": row["attempts"] + before.get(row["source_id"], 0)} for row in lost]
    present = {_key(origin) for origin in origins}
    memory.settle(lambda row: row["key"] in present or row["place"] != where.uri)
    sources = [_source(origin, known[_key(origin)], scratch) for origin in origins if _key(origin) in known]
    return Came(sources, lost, Fetching(runner, scratch), scratch)


def foresee(videos: Path | str, tables: Tables) -> list[Source]:
    """The same for a plan: nothing but captions is fetched, and an object that is not known has an id of its own."""
    where = place_of(videos)
    if isinstance(where, Path):
        return identify(list_files(where), where)
    scratch = Scratch(_folder(where, tables))
    origins, lost = _usable(_listed(where))
    gone = {row["uri"] for row in [*lost, *_bring_beside(origins, scratch)]}
    known = {key: row["source_id"] for key, row in Ledger(tables, OBJECTS, lambda _row: 0).rows().items()}
    origins = [origin for origin in origins if origin.stored.path not in gone]
    return [_source(origin, known.get(_key(origin), _key(origin)), scratch) for origin in origins]


@contextmanager
def at_hand(videos: Path | str, uri: str, tables: Tables) -> Iterator[Path]:
    """One file of a folder or a place, while the block runs.

    Raises:
        FileNotFoundError: It cannot be had any more.

    """
    where = place_of(videos)
    if isinstance(where, Path):
        yield where / uri
        return
    scratch = Scratch(_folder(where, tables) / f".single-{os.getpid()}")
    try:
        size = where.size_bytes(uri)
        if size is None:
            raise FileNotFoundError(uri)
        with scratch.holding(Origin(where, Stored(uri, size, ""))) as file:
            yield file
    except (Lost, VidgenError) as error:
        raise FileNotFoundError(str(error)) from error
    finally:
        shutil.rmtree(scratch.folder, ignore_errors=True)


def _with_source(item: Any, *, function: Callable[[Any], Result], scratch: Scratch) -> Result | Failure:
    source = _source_of(item)
    if source is None or source.origin is None:
        return function(item)
    try:
        with scratch.holding(source.origin):
            return function(item)
    except Lost as lost:
        return Failure(UNFETCHED, lost.message, lost.attempts)


def _digest(origin: Origin, *, scratch: Scratch) -> str | Failure:
    try:
        with scratch.holding(origin) as file:
            return digests.of_file(file, 32)
    except Lost as lost:
        return Failure(UNFETCHED, lost.message, lost.attempts)


def _source_of(item: Any) -> Source | None:
    source = getattr(item, "source", None)
    return source if isinstance(source, Source) else None


def _deadline_s(origins: Sequence[Origin]) -> float:
    return 600.0 + max((origin.stored.size_bytes for origin in origins), default=0) / _SLOWEST_BYTES_S


def _listed(where: Place) -> list[Origin]:
    """Media of a place with what lies beside it, in the order of a folder."""
    everything = {one.path: one for one in where.objects()}
    media = sorted((path for path in everything if is_media(path)), key=PurePosixPath)
    if not media:
        raise nothing_there(where.uri, len(everything))
    origins = []
    for path in media:
        beside = [everything[name] for name in _beside(path) if name in everything]
        origins.append(Origin(where, everything[path], tuple(beside)))
    return origins


def _beside(path: str) -> list[str]:
    """Where captions of a video, and its license, may be."""
    video = PurePosixPath(path)
    folders = [video.parent, *([video.parent.parent] if len(video.parts) > 1 else [])]
    return [
        *(str(video.with_suffix(f".{suffix}")) for suffix in SUFFIXES),
        str(video.with_suffix(INFO)),
        *(str(one / LIST) for one in folders),
    ]


def _usable(origins: Sequence[Origin]) -> tuple[list[Origin], list[dict[str, Any]]]:
    """The objects whose names can be a file's below a folder, and rows of `rejects` for the others."""
    usable, lost = [], []
    for origin in origins:
        parts = origin.stored.path.split("/")
        if any(part in ("", ".", "..") or len(part.encode()) > _NAME_BYTES - len(".stamp") - 1 for part in parts):
            lost.append(_lost(origin.stored.path, "Its name cannot be a file's", 1))
        else:
            usable.append(origin)
    return usable, lost


def _bring_beside(origins: Sequence[Origin], scratch: Scratch) -> list[dict[str, Any]]:
    """Bring what may hold captions or a license, remove what is gone; rows of `rejects` where that fails."""
    wanted = {stored.path: (origin.place, stored) for origin in origins for stored in origin.beside}
    possible = {path for origin in origins for path in _beside(origin.stored.path)}
    for path in sorted(possible - wanted.keys()):
        _remove(scratch.folder / path)
    stale = [one for one in wanted.values() if not _is_current(scratch.folder / one[1].path, one[1])]
    failed: dict[str, Lost] = {}

    def bring(one: tuple[Place, Stored]) -> None:
        try:
            scratch.bring(*one)
        except Lost as lost:
            failed[one[1].path] = lost

    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(bring, stale))
    rows = []
    for origin in origins:
        for stored in origin.beside:
            if lost := failed.get(stored.path):
                message = f"{PurePosixPath(stored.path).name} beside it: {lost.message}"
                rows.append(_lost(origin.stored.path, message, lost.attempts))
                break
    return rows


def _source(origin: Origin, source_id: str, scratch: Scratch) -> Source:
    return Source(source_id, origin.stored.path, scratch.folder / origin.stored.path, origin)


def _lost(uri: str, message: str, attempts: int) -> dict[str, Any]:
    """A row of `rejects`; without its bytes a source is known by its name."""
    unread = Source(digests.of_value(["unread", uri], 32), uri, Path(uri))
    return dead_row(unread, UNFETCHED, message, attempts) | {"stage": FETCH}


def _memory_row(origin: Origin, source_id: str) -> dict[str, Any]:
    stored = origin.stored
    return {"key": _key(origin), "source_id": source_id, "place": origin.place.uri, "uri": stored.path,
            "bytes": stored.size_bytes, "stamp": stored.stamp}  # fmt: skip


def _key(origin: Origin) -> str:
    stored = origin.stored
    return digests.of_value([origin.place.uri, stored.path, stored.size_bytes, stored.stamp], 32)


def _folder(where: Place, tables: Tables) -> Path:
    return tables.root / "fetched" / digests.of_value(where.uri)


def _stamp_file(file: Path) -> Path:
    return file.with_name(f".{file.name}.stamp")


def _is_current(file: Path, stored: Stored) -> bool:
    state = _state(file)
    if state is None or state.st_size != stored.size_bytes:
        return False
    try:
        return _stamp_file(file).read_text() == stored.stamp
    except OSError:
        return False


def _state(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)
    _stamp_file(file).unlink(missing_ok=True)
