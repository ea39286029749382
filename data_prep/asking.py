"""Clips shown to a captioner, wherever it works: in the processes that decode, or on a server that threads wait for.

For a server the pictures of a source go through a file, and are read from it a clip at a time: in memory are never more
clips than twice the requests under way, and on disk never more sources than the runner has under way.
"""

import shutil
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Generic, TypeVar

import pyarrow as pa

from data_prep.bounds import costs_itself
from data_prep.captioners._contract import Captioner, CaptionerSettings, Said, Status
from data_prep.decode import Undecodable, take_decoded
from data_prep.ledger import Row
from data_prep.needs import needs
from data_prep.run import UNFETCHED, Failure
from data_prep.stills import stills
from data_prep.units import Unit, Workshop
from vidgen_core import discovery

__all__ = ["GENERATED", "PLACE", "Seen", "Span", "Work", "in_threads", "module", "over_clips"]

Span = dict[str, Any]
Seen = tuple[Span, Sequence[bytes]]  # a span and its pictures
GENERATED = "generated_captions"
# What tells the pictures of a span.
PLACE = ("start_pts", "stop_pts", "crop_x", "crop_y", "crop_w", "crop_h")
_TOGETHER = 8
_CLIP_S = 10.0
_SPOOL = pa.schema([("clip_id", pa.string()), ("pictures", pa.list_(pa.binary()))])
_GONE = "Its frames do not come any more"
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Work:
    """What is wanted of each clip. Both functions are of a module, since they go to other processes.

    Attributes:
        answer: Rows for clips that a captioner sees.
        lost: Rows for a clip that it cannot see, with what is said of it instead.

    """

    answer: Callable[[Captioner, Sequence[Seen]], list[Row]]
    lost: Callable[[Span, Said], list[Row]]


def module(settings: CaptionerSettings) -> Any:
    """The captioner's file."""
    return discovery.load("data_prep.captioners", settings.name)


def over_clips(
    units: Sequence[Unit], work: Work, shop: Workshop, settings: CaptionerSettings
) -> Generator[list[Row], None, None]:
    """Rows of some clips after rows of some others, as they come; every span of every unit is in them.

    To be closed by who stops before its end, so that nothing more is asked.

    Raises:
        VidgenError: The captioner cannot be opened, or its server takes no request any more.

    """
    if not units:
        return
    if not module(settings).REMOTE:
        yield from _by_workers(units, work, shop, settings)
        return
    captioner: Captioner = module(settings).open_captioner(settings)
    folder = shop.tables.root / "stills"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        answer = partial(_answer_one, captioner=captioner, work=work)
        yield from in_threads(answer, _spooled(units, folder, work, shop, settings), settings.server.concurrency)
    finally:
        captioner.close()
        shutil.rmtree(folder, ignore_errors=True)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Results as they come; at most twice as many items as threads are taken ahead of what was yielded."""
    crew = _Crew(function, threads)
    under_way = 0
    try:
        for item in items:
            crew.give(item)
            under_way += 1
            while under_way >= 2 * threads or crew.ready():
                yield crew.take()
                under_way -= 1
        for _ in range(under_way):
            yield crew.take()
    finally:
        crew.dismiss()


class _Crew(Generic[Item, Result]):
    """Threads that do not keep the program from ending, as an executor's would until a slow server has answered."""

    def __init__(self, function: Callable[[Item], Result], threads: int) -> None:
        self._function, self._threads = function, threads
        self._todo: Queue[tuple[Item] | None] = Queue()
        self._done: Queue[Callable[[], Result]] = Queue()
        for _ in range(threads):
            threading.Thread(target=self._work, daemon=True).start()

    def give(self, item: Item) -> None:
        self._todo.put((item,))

    def ready(self) -> bool:
        return not self._done.empty()

    def take(self) -> Result:
        """The next result, or its error raised."""
        return self._done.get()()

    def dismiss(self) -> None:
        """Nothing is begun any more; what is under way ends by itself."""
        with suppress(Empty):
            while True:
                self._todo.get_nowait()
        for _ in range(self._threads):
            self._todo.put(None)

    def _work(self) -> None:
        while (item := self._todo.get()) is not None:
            outcome: Future[Result] = Future()
            try:
                outcome.set_result(self._function(*item))
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that takes it
                outcome.set_exception(error)
            self._done.put(outcome.result)


def _by_workers(units: Sequence[Unit], work: Work, shop: Workshop, settings: CaptionerSettings) -> Iterator[list[Row]]:
    # A captioner takes time for each clip, besides the decoding that the deadline of a source is meant for.
    deadline_s = shop.deadline_s + _CLIP_S * max(len(unit.spans) for unit in units)
    there = partial(_answer_all, work=work, settings=settings)
    for unit, result in shop.runner.map(there, units, deadline_s=deadline_s):
        if isinstance(result, Failure):
            yield _lost(unit, work, _died(result))
            continue
        rows, decoded = result
        shop.decoded[GENERATED] += decoded
        yield rows


@needs(memory_gib=3)
@costs_itself
def _answer_all(unit: Unit, *, work: Work, settings: CaptionerSettings) -> tuple[list[Row], int]:
    """In a worker: rows for a unit, and how many frames were decoded for them."""
    captioner, message = _opened(settings.model_dump_json()), _GONE
    rows: list[Row] = []
    unseen = {span["clip_id"]: span for span in unit.spans}
    try:
        shown = _stills(unit, settings)
        while some := list(islice(shown, _TOGETHER)):
            rows += work.answer(captioner, some)
            for span, _ in some:
                del unseen[span["clip_id"]]
    except Undecodable as error:
        message = error.message
    return rows + _lost(unit._replace(spans=tuple(unseen.values())), work, Said("", "failed", message)), take_decoded()


@lru_cache(maxsize=1)
def _opened(settings: str) -> Captioner:
    """Weights are read once in a process."""
    named = CaptionerSettings.model_validate_json(settings)
    captioner: Captioner = module(named).open_captioner(named)
    return captioner


def _stills(unit: Unit, settings: CaptionerSettings) -> Iterator[Seen]:
    frames = settings.frames or module(settings).FRAMES
    return (
        (dict(span), pictures)
        for span, pictures in stills(unit.source.file, unit.spans, frames=frames, side_px=settings.side_px)
    )


def _lost(unit: Unit, work: Work, said: Said) -> list[Row]:
    return [row for span in unit.spans for row in work.lost(span, said)]


def _died(failure: Failure) -> Said:
    # A store that does not answer for a minute is no reason to wait until somebody asks to try again.
    status: Status = "failed" if failure.reason == UNFETCHED else "crashed"
    return Said("", status, failure.message, attempts=failure.attempts)


def _answer_one(item: Seen | list[Row], *, captioner: Captioner, work: Work) -> list[Row]:
    return item if isinstance(item, list) else work.answer(captioner, [item])


def _spooled(
    units: Sequence[Unit], folder: Path, work: Work, shop: Workshop, settings: CaptionerSettings
) -> Iterator[Seen | list[Row]]:
    """Clips with their pictures, and the rows of those that have none."""
    there = partial(_spool, folder=folder, settings=settings)
    for unit, result in shop.runner.map(there, units, deadline_s=shop.deadline_s):
        if isinstance(result, Failure):
            yield _lost(unit, work, _died(result))
            continue
        file, message, decoded = result
        shop.decoded[GENERATED] += decoded
        spans = {span["clip_id"]: span for span in unit.spans}
        with pa.OSFile(str(file)) as stream, pa.ipc.open_stream(stream) as batches:
            for batch in batches:
                yield spans.pop(batch["clip_id"][0].as_py()), batch["pictures"][0].as_py()
        file.unlink()
        if spans:
            yield _lost(unit._replace(spans=tuple(spans.values())), work, Said("", "failed", message))


@needs(memory_gib=1.5)
@costs_itself
def _spool(unit: Unit, *, folder: Path, settings: CaptionerSettings) -> tuple[Path, str, int]:
    """In a worker: the pictures of a unit into a file, why there are no others, and how many frames were decoded."""
    file, message = folder / f"{unit.key}.arrow", _GONE
    with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_stream(stream, _SPOOL) as out:
        try:
            for span, pictures in _stills(unit, settings):
                out.write_batch(pa.record_batch([[span["clip_id"]], [pictures]], schema=_SPOOL))
        except Undecodable as error:
            message = error.message
    return file, message, take_decoded()
