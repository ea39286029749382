"""Scores by models over a few stills of each span, in a pass of its own over the sources.

A result is kept in `scores` under the source's spans, the scorer and its weights: swapping a model scores with that
model alone, and what is there of the others stays. One pass over a source serves all scorers that are missing there.
A decision looks for them beside the columns of `spans`.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.bounds import costs_itself
from data_prep.needs import needs
from data_prep.pace import Pace
from data_prep.rows import grouped
from data_prep.run import UNFETCHED, Failure
from data_prep.score_settings import ScoreSettings
from data_prep.scorers._weights import Scorer
from data_prep.select import Select
from data_prep.sources import Source
from data_prep.stills import box, pictures
from data_prep.tables import SCHEMAS, Part, Tables
from data_prep.units import FAILURES, Workshop, dead_row, given_up, key_of_try, tries, write
from vidgen_core import digests, discovery
from vidgen_core.errors import VidgenError

__all__ = [
    "CAPTION_SCORES",
    "LOOKED_AT",
    "SCORES",
    "Round",
    "Task",
    "check_rules",
    "columns",
    "missing",
    "readers_of_captions",
    "score_spans",
    "scorers",
    "with_scores",
    "without_weights",
]

SCORES, CAPTION_SCORES = "scores", "caption_scores"
_SCORERS = "data_prep.scorers"
_VERSION = 2
# Not all columns: rows of a million spans are gigabytes.
LOOKED_AT = ["clip_id", "source_id", "start_pts", "stop_pts", "crop_x", "crop_y", "crop_w", "crop_h", "caption"]
Span = dict[str, Any]


class Task(NamedTuple):
    """A source to score.

    Attributes:
        keys: Scorer -> the key of its missing result.
        tries: How often it was tried in vain.
        lost: Why it is not tried again.

    """

    source: Source
    keys: Mapping[str, str]
    spans: Sequence[Span]
    tries: int = 0
    lost: Span | None = None


class Round(NamedTuple):
    """Some scorers that look at spans together, the table of their scores, and the name of the stage."""

    table: str
    scorers: frozenset[str]
    stage: str

    @property
    def failures(self) -> str:
        """The table of the sources whose processes died."""
        return FAILURES + self.stage


def scorers() -> frozenset[str]:
    """All there are."""
    return frozenset(discovery.names(_SCORERS))


def readers_of_captions() -> frozenset[str]:
    """Those that look at the caption besides the pictures."""
    return frozenset(name for name in scorers() if _scorer(name).READS_CAPTION)


def columns(names: Iterable[str]) -> list[str]:
    """The scores that some scorers write."""
    return [column for name in sorted(names) for column in _scorer(name).WRITES]


def without_weights(settings: ScoreSettings) -> list[str]:
    """The scorers that leave their columns null, since their weights are not given."""
    return [name for name in discovery.names(_SCORERS) if not getattr(settings, name).weights]


def check_rules(select: Select, settings: ScoreSettings) -> None:
    """Refuse a rule that could only drop everything.

    Raises:
        VidgenError: A rule is on whose scorer has no weights.

    """
    for name in without_weights(settings):
        for column in _scorer(name).WRITES:
            for rule in (f"min_{column}", f"max_{column}"):
                if getattr(select, rule, None) is not None:
                    raise VidgenError(
                        f"The rule {rule} is on, but nothing writes its score: every clip would be dropped",
                        move=f"Give --set data.scores.{name}.weights=FILE, or --set data.select.{rule}=null",
                    )


def score_spans(
    spans: pa.Table, sources: Mapping[str, Source], shop: Workshop, settings: ScoreSettings, which: Round
) -> None:
    """Bring a round's table up to date: rows for every span and scorer with weights, and no other.

    A source that crashes its process here has no scores, and a row in the round's table of failures.

    Raises:
        VidgenError: Weights are missing or cannot be read.

    """
    tasks, total = missing(spans, sources, shop.tables, settings, which)
    name = which.table
    work = partial(_score_source, tables=shop.tables, settings=settings, table=name)
    finished: list[Part] = []
    failed = [part for task in tasks if task.lost for part in _give_up(task, task.lost, shop.tables, which)]
    tasks = [task for task in tasks if not task.lost]
    pace = Pace()
    for done, (task, result) in enumerate(shop.runner.map(work, tasks, deadline_s=shop.deadline_s), start=1):
        if isinstance(result, Failure) and result.reason == UNFETCHED:
            # Its clips have no scores in this run, and the next one tries again.
            result = []
        elif isinstance(result, Failure):
            row = dead_row(task.source, result.reason, result.message, result.attempts + task.tries, which.stage)
            failed += _give_up(task, row, shop.tables, which)
            result = [write(shop.tables, name, key, []) for key in task.keys.values()]
        shop.decoded[name] += sum(part.decoded for part in result)
        finished += result
        if pace.due(len(finished)):
            with pace.committing():
                _commit(shop.tables, which, failed, finished)
            failed, finished = [], []
        shop.progress(total - len(tasks) + done, total)
    if failed or finished:
        _commit(shop.tables, which, failed, finished)


def missing(
    spans: pa.Table, sources: Mapping[str, Source], tables: Tables, settings: ScoreSettings, which: Round
) -> tuple[list[Task], int]:
    """What is to be scored, of how many sources; results that nobody wants any more leave the table."""
    made_by = {
        name: digests.of_value([name, _scorer(name).VERSION, _VERSION, settings.stills, _scorer(name).digest(settings)])
        for name in sorted(which.scorers - set(without_weights(settings)))
    }
    if not made_by and not tables.exists(which.table):
        return [], 0
    of_sources = grouped(spans.select(LOOKED_AT), "source_id", "clip_id") if made_by else {}
    tried = tries(tables, which.stage)
    keys_of = partial(_keys, made_by=made_by, readers=readers_of_captions())
    keys = {source: keys_of(source, some, tried.get(source, 0)) for source, some in of_sources.items()}
    have = tables.committed(which.table)
    wanted = {key for of_source in keys.values() for key in of_source.values()}
    lost = given_up(tables, which.failures)
    if tables.exists(which.failures):
        tables.commit(which.failures, SCHEMAS["rejects"], [], drop=tables.committed(which.failures) - (wanted & have))
    tables.commit(which.table, SCHEMAS[which.table], [], drop=have - wanted)
    lost = {
        source: row | {"message": row["message"].partition(": ")[2]}
        for source, row in lost.items()
        if tried.get(source, 0) < row["attempts"]
    }
    tasks = [
        Task(sources[source], lacking, of_sources[source], tried.get(source, 0), lost.get(source))
        for source, of_source in keys.items()
        if (lacking := {name: key for name, key in of_source.items() if key not in have})
    ]
    return tasks, len(keys)


def _give_up(task: Task, row: Span, tables: Tables, which: Round) -> list[Part]:
    """Why scorers have no result for a source: a file for each of their keys."""
    own = row | {"uri": task.source.uri}
    return [write(tables, which.failures, key, [own | {"message": f"{name}: {row['message']}"}])
            for name, key in task.keys.items()]  # fmt: skip


def _commit(tables: Tables, which: Round, failed: Sequence[Part], finished: Sequence[Part]) -> None:
    """The failures first: what is in the round's table is whole."""
    if failed:
        tables.commit(which.failures, SCHEMAS["rejects"], failed)
    tables.commit(which.table, SCHEMAS[which.table], finished)


def with_scores(spans: pa.Table, scores: pa.Table, names: frozenset[str] | None = None) -> pa.Table:
    """Spans with a column for each score of some scorers (all of them if None), null where there is none."""
    told = scores["score"].to_numpy(zero_copy_only=False)
    for column in columns(scorers() if names is None else names):
        own = scores.filter(pa.array(told == column))
        values: pa.Array | pa.ChunkedArray = pa.nulls(len(spans), pa.float64())
        if len(own):
            values = own["value"].take(pc.index_in(spans["clip_id"], value_set=own["clip_id"].combine_chunks()))
        spans = spans.drop_columns(column) if column in spans.column_names else spans
        spans = spans.append_column(column, values)
    return spans


def _scorer(name: str) -> ModuleType:
    return discovery.load(_SCORERS, name)


def _keys(
    source_id: str, spans: Sequence[Span], tried: int, *, made_by: Mapping[str, str], readers: frozenset[str]
) -> dict[str, str]:
    """Scorer -> the key of its result for a source; captions are in the keys of those that read them."""
    heard = [(span["clip_id"], *box(span), span["caption"]) for span in spans]
    seen = [(*place, "") for *place, _ in heard]
    values = {name: [made, source_id, heard if name in readers else seen] for name, made in made_by.items()}
    return {name: key_of_try(digests.of_value(value, 32), tried) for name, value in values.items()}


@needs(memory_gib=3)
@costs_itself
def _score_source(task: Task, *, tables: Tables, settings: ScoreSettings, table: str) -> list[Part]:
    opened = {name: _opened(name, settings) for name in task.keys}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in opened}
    for span, shown in pictures(task.source.file, task.spans, frames=settings.stills):
        seen = [np.asarray(picture.image()) for picture in shown]
        for name, scorer in opened.items():
            named = {"clip_id": span["clip_id"], "source_id": span["source_id"], "scorer": name}
            scores = scorer.score(seen, span["caption"])
            rows[name] += [{**named, "score": column, "value": value} for column, value in scores.items()]
    return [write(tables, table, key, rows[name]) for name, key in task.keys.items()]


@lru_cache(maxsize=16)
def _opened(name: str, settings: ScoreSettings) -> Scorer:
    """Weights are read once in a process."""
    scorer: Scorer = _scorer(name).open_scorer(settings)
    return scorer
