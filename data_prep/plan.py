"""What `prepare` would do: it is run against tables that only look, so that a plan cannot disagree with the run.

Nothing is decoded and nothing is written. What a new source will bring is not known before it is analyzed, and said so.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_prep.audio import AUDIO
from data_prep.captioning import Captioned, expected
from data_prep.coded import IDENTITY, stored_rows
from data_prep.cutting import reusable
from data_prep.fetching import foresee
from data_prep.matching import deferred
from data_prep.prepare import Brought, bring
from data_prep.rights import note_rights
from data_prep.run import PoolRunner
from data_prep.score_settings import ScoreSettings
from data_prep.scoring import SCORES, Round, missing
from data_prep.settings import CaptionerSettings, DataSettings
from data_prep.sources import Source
from data_prep.storage import Place
from data_prep.tables import Part, Tables
from data_prep.units import Unit, Workshop, given_up, made_of
from vidgen_core.frozen import Frozen

__all__ = ["Plan", "Step", "plan"]


class Step(Frozen):
    """What a step of `prepare` would do.

    Args:
        name: The step.
        of: What is counted.
        new: Never done before.
        stale: Why it must be done again -> how many.
        reused: There already.
        removed: To leave the tables.
        unknown: Decided only when their sources have been analyzed again.
        decode_bytes: Size of the files that it decodes.

    """

    name: str
    of: str
    new: int = 0
    stale: dict[str, int] = {}
    reused: int = 0
    removed: int = 0
    unknown: int = 0
    decode_bytes: int = 0


class Plan(Frozen):
    """All steps, and how many files take no part in them.

    Args:
        files: Files in the folder.
        copies: Files with the same bytes as another.
        forgotten: Files that were taken down.
        steps: In their order.

    """

    files: int
    copies: int
    forgotten: int
    steps: tuple[Step, ...]


def plan(videos: Path | str, tables: Tables, settings: DataSettings, *, latents: str = "") -> Plan:
    """What `prepare` with these arguments would do; captions that are to come are taken for granted.

    Args:
        videos: The folder, or a place.
        tables: As they are.
        settings: What would be asked.
        latents: A table of latents that `vidgen latents` would bring up to date afterwards.

    Raises:
        VidgenError: The folder has no videos.

    """
    found = foresee(videos, tables)
    looking = _Looking(tables.root, tables.place)
    shop = _Rehearsal(looking, PoolRunner(1), lambda *_: None, settings.source_deadline_s, looks=True)
    asked = _Asked()
    note_rights(found, looking)
    brought = bring(found, shop, settings, asked.score, asked.caption)
    passes = {one.name: one for one in shop.passes}
    analysis, cutting = passes["sources"], passes["clips"]
    waiting = {unit.source.source_id for unit in analysis.todo}
    # Whether a span passes may hang on a caption that is not written yet.
    waiting |= asked.sources
    steps = [
        _analyze(analysis),
        *asked.scoring,
        _decide(brought, tables, waiting, deferred(settings)),
        *asked.captioning,
    ]
    steps.append(_cut(cutting, waiting, len(brought.kept)))
    if AUDIO in passes:
        steps.append(_sound(passes[AUDIO]))
    if latents:
        steps.append(_code(brought.kept, tables, latents, waiting))
    gone = set(tables.read("forgotten", ["source_id"])["source_id"].to_pylist())
    forgotten = sum(source.source_id in gone for source in found)
    copies = len(found) - forgotten - len(brought.unique)
    return Plan(files=len(found), copies=copies, forgotten=forgotten, steps=tuple(steps))


class _Looking(Tables):
    """The tables as they would be once stale units have left; it writes nothing."""

    def __init__(self, root: Path, place: Place | None) -> None:
        super().__init__(root, place)
        self._hidden: dict[str, set[str]] = {}
        self._told: dict[str, pa.Table] = {}

    def listed(self, name: str, version: int | None = None) -> dict[Path, int]:
        """See `Tables`."""
        hidden, there = self._hidden.get(name, set()), super().listed(name, version)
        return {file: size for file, size in there.items() if file.stem.removeprefix("part-") not in hidden}

    def commit(self, name: str, schema: pa.Schema | None, parts: Sequence[Part], *, drop: Iterable[str] = ()) -> None:
        """Hide what would be dropped."""
        self._hidden.setdefault(name, set()).update(drop)

    def replace(self, name: str, table: pa.Table) -> None:
        """Remember what it would be."""
        self._told[name] = table

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """See `Tables`."""
        if (told := self._told.get(name)) is not None:
            return told.select(list(columns)) if columns else told
        return super().read(name, columns)


@dataclass(frozen=True)
class _Pass:
    """One pass over units: those wanted, those to do, and the units of its last table that would leave."""

    name: str
    units: tuple[Unit, ...]
    todo: tuple[Unit, ...]
    gone: frozenset[str]
    tables: Tables

    def rows_gone(self, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Rows of the units that would leave."""
        return [row for key in sorted(self.gone) for row in self.tables.part(self.name, key, columns).to_pylist()]


@dataclass(frozen=True)
class _Rehearsal(Workshop):
    """A workshop that notes what it would do."""

    passes: list[_Pass] = field(default_factory=list)

    def run(
        self, units: Sequence[Unit], work: object, names: Sequence[str], *, adopt: bool = False, rest: object = None
    ) -> None:  # noqa: ARG002, E501
        """Note the units that would be done, and hide what would leave."""
        have, wanted = self.tables.committed(names[-1]), {unit.key for unit in units}
        lost = {source: row["attempts"] for source, row in given_up(self.tables, names[0]).items()}
        lacking = [unit for unit in units if unit.key not in have]
        there = self.written(lacking, names) if adopt else {}
        todo = tuple(u for u in lacking if u.key not in there and u.tries >= lost.get(u.source.source_id, 0))
        self.passes.append(_Pass(names[-1], tuple(units), todo, frozenset(have - wanted), self.tables))
        for name in names:
            self.tables.commit(name, pa.schema([]), [], drop=self.tables.committed(name) - (wanted & have))


def _analyze(done: _Pass) -> Step:
    """Sources; a stale one is told by what differs in what its key was made of."""
    tables = done.tables
    gone = [made_of(tables, tables.part_file(done.name, key)) for key in done.gone]
    old = {made.get("source_id"): made for made in gone if made}
    wanted = {unit.source.source_id: unit for unit in done.units}
    stale = Counter(_why(unit, old[unit.source.source_id]) for unit in done.todo if unit.source.source_id in old)
    return Step(
        name="analyze",
        of="sources",
        new=len(done.todo) - sum(stale.values()),
        stale=dict(stale),
        reused=len(done.units) - len(done.todo),
        removed=len(done.gone) - sum(source_id in wanted for source_id in old),
        decode_bytes=_bytes(unit.source for unit in done.todo),
    )


def _why(unit: Unit, old: Mapping[str, Any]) -> str:
    """What of a key's ingredients has changed, in words."""
    new = json.loads(unit.made)
    changed = []
    for name, word in (("settings", "setting"), ("versions", "version of stage")):
        changed += [f"{word} {path}" for path in _differing(old.get(name, {}), new[name])]
    words = {"captions": "captions beside the video", "uri": "name of the file", "tries": "asked to retry"}
    changed += [word for name, word in words.items() if old.get(name) != new[name]]
    return ", ".join(changed) or "made by another vidgen"


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], above: str = "") -> list[str]:
    paths: list[str] = []
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            paths += _differing(a, b, f"{above}{name}.")
        elif a != b:
            paths.append(above + name)
    return paths


def _decide(brought: Brought, tables: Tables, waiting: set[str], later: frozenset[str]) -> Step:
    """Spans of sources that are analyzed: which verdicts change. `later` are the rules that wait for captions."""
    rejects = tables.read("rejects", ["clip_id", "source_id", "stage"])
    uncut = rejects.filter(pc.equal(rejects["stage"], "cut")).drop_columns("stage")
    before = pa.concat_tables([tables.read("captions", ["clip_id", "source_id"]), uncut])
    known = dict(zip(before["clip_id"].to_pylist(), before["source_id"].to_pylist(), strict=True))
    now = set(brought.kept["clip_id"].to_pylist())
    dropped = brought.rejects.select(["clip_id", "source_id", "reason"]).to_pylist()
    told_later = {"need_caption", *later}
    silent = {row["clip_id"] for row in dropped if row["reason"] in told_later and row["source_id"] in waiting}
    left = [source_id for clip_id, source_id in known.items() if clip_id not in now | silent]
    unknown = sum(source_id in waiting for source_id in left)
    return Step(
        name="decide",
        of="spans",
        new=sum(clip_id not in known for clip_id in now),
        reused=sum(clip_id in known for clip_id in now)
        + sum(row["clip_id"] not in known and row["clip_id"] not in silent for row in dropped),
        removed=len(left) - unknown,
        unknown=unknown + len(silent),
    )


@dataclass
class _Asked:
    """Stands in for models: asks none, and notes what they would be asked, and about the clips of which sources."""

    scoring: list[Step] = field(default_factory=list)
    captioning: list[Step] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)

    def score(
        self, spans: pa.Table, sources: Mapping[str, Source], shop: Workshop, settings: ScoreSettings, which: Round
    ) -> None:
        tasks, total = missing(spans, sources, shop.tables, settings, which)
        tasks = [task for task in tasks if not task.lost]
        if total:
            self.sources |= {task.source.source_id for task in tasks}
            decoded = _bytes(task.source for task in tasks)
            reused = total - len(tasks)
            name, steps = ("score", self.scoring) if which.table == SCORES else ("match", self.captioning)
            steps.append(Step(name=name, of="sources", new=len(tasks), reused=reused, decode_bytes=decoded))

    def caption(
        self,
        spans: Sequence[dict[str, Any]],
        sources: Mapping[str, Source],
        shop: Workshop,
        settings: CaptionerSettings,
    ) -> Captioned:
        said, lacking, there = expected(spans, shop.tables, settings)
        awaited = {span["source_id"] for span in spans if said.awaited(span)}
        self.sources |= awaited
        decoded = _bytes(sources[source_id] for source_id in awaited)
        self.captioning.append(Step(name="caption", of="captions", new=lacking, reused=there, decode_bytes=decoded))
        return said


def _cut(done: _Pass, waiting: set[str], kept: int) -> Step:
    """Clips: only those are encoded that no unit has."""
    before = {row["clip_id"]: row["source_id"] for row in done.rows_gone(["clip_id", "source_id"])}
    wanted = {span["clip_id"] for unit in done.todo for span in unit.spans}
    copied, decoded = 0, []
    for unit in done.todo:
        there = reusable(unit, done.tables, ["clip_id", "media_key"])
        copied += len(there)
        decoded += [unit.source] if len(there) < len(unit.spans) else []
    stale = len(wanted & set(before)) - copied
    left = [source_id for clip_id, source_id in before.items() if clip_id not in wanted]
    return Step(
        name="cut",
        of="clips",
        new=len(wanted) - copied - stale,
        stale={"crop or encoding": stale} if stale else {},
        reused=kept - len(wanted) + copied,
        removed=sum(source_id not in waiting for source_id in left),
        unknown=sum(source_id in waiting for source_id in left),
        decode_bytes=_bytes(decoded),
    )


def _sound(done: _Pass) -> Step:
    """Sound of clips: what stays of a source is used again."""
    before = {row["clip_id"] for row in done.rows_gone(["clip_id"])}
    wanted = {span["clip_id"] for unit in done.todo for span in unit.spans}
    return Step(
        name="keep sound",
        of="clips",
        new=len(wanted - before),
        reused=sum(len(unit.spans) for unit in done.units) - len(wanted - before),
        removed=len(before - wanted),
        decode_bytes=_bytes(u.source for u in done.todo if not {span["clip_id"] for span in u.spans} <= before),
    )


def _code(kept: pa.Table, tables: Tables, name: str, waiting: set[str]) -> Step:
    """Latents: those of clips whose media or whose side of the split changes are made again."""
    coded = {row[0]: row[1:] for rows in stored_rows(tables, name, IDENTITY).values() for row in rows or ()}
    clips = tables.read("clips", ["clip_id", "split", "media_key", "media_sha256", "source_id"]).to_pylist()
    there = {row["clip_id"]: row for row in clips}
    wanted = kept.select(["clip_id", "split", "media_key"]).to_pylist()
    stale: Counter[str] = Counter()
    new = 0
    for span in wanted:
        clip = there.get(span["clip_id"])
        if span["clip_id"] not in coded:
            new += 1
        elif clip is None or coded[span["clip_id"]] != (span["split"], clip["media_sha256"]):
            stale["split" if coded[span["clip_id"]][0] != span["split"] else "crop or encoding"] += 1
        elif clip["media_key"] != span["media_key"]:
            stale["crop or encoding"] += 1
    left = coded.keys() - set(kept["clip_id"].to_pylist())
    unknown = sum(there[clip_id]["source_id"] in waiting for clip_id in left if clip_id in there)
    return Step(
        name="code",
        of="clips",
        new=new,
        stale=dict(stale),
        reused=len(wanted) - new - stale.total(),
        removed=len(left) - unknown,
        unknown=unknown,
    )


def _bytes(sources: Iterable[Source]) -> int:
    return sum(source.size_bytes for source in sources)
