"""Laws of what errors take after the analysis: a row each, counted, and not tried again until somebody asks."""

import pyarrow.compute as pc
import pytest

from data_prep import scoring
from data_prep.explain import explain_source
from data_prep.losses import EMPTY_EXIT, LOSS_EXIT
from data_prep.plan import plan
from data_prep.prepare import prepare
from data_prep.retry import ask_again, dead_letters
from data_prep.run import Failure
from data_prep.samples import make
from data_prep.score_settings import ScoreSettings, WeightsSettings
from data_prep.scorers import niqe
from data_prep.select import Select
from data_prep.settings import DataSettings, ShotSettings
from data_prep.tables import Tables
from vidgen_core.errors import VidgenError

# Stage -> the function of it that decodes.
STAGES = {"analyze": "_analyze_unit", "score": "_score_source", "cut": "_cut_unit", "audio": "_keep_unit",
          "caption": "_spool"}  # fmt: skip

SLOW = pytest.mark.slow
# Settings that give the stage's results another key.
OTHER = {
    "analyze": {"shots": ShotSettings(threshold=0.4)},
    "score": {"scores": ScoreSettings(niqe=WeightsSettings(weights="same"), stills=2)},
    "cut": {"select": Select(min_motion=0.5)},
    "audio": {"select": Select(min_motion=0.5)},
}


class Here:
    """Runs tasks in this process; on one source, some functions end their process. `ran` has the functions it met."""

    def __init__(self, victim="", function=""):
        self.victim, self.function, self.ran = victim, function, []

    def map(self, function, items, *, deadline_s=0.0):
        for item in items:
            if item.source.uri == self.victim:
                self.ran.append(function.func.__name__)
                if self.ran[-1] == self.function:
                    yield item, Failure("crashed", "The process that worked on it died", 2)
                    continue
            yield item, function(item)


@pytest.fixture(name="videos")
def _videos(tmp_path):
    folder = tmp_path / "videos"
    make(folder, count=2, seed=3)
    return folder


@pytest.fixture(name="settings")
def _settings(server, monkeypatch):
    class Same:
        def score(self, stills, caption):
            return {"niqe": 3.0}

    monkeypatch.setattr(niqe, "open_scorer", lambda settings: Same())
    monkeypatch.setattr(niqe, "digest", lambda settings: "same")
    scoring._opened.cache_clear()
    server.say = lambda request: f"A clip like {hash(request.pictures[0])}."
    yield DataSettings(
        captioner=server.settings(always=True),
        scores=ScoreSettings(niqe=WeightsSettings(weights="same")),
        audio="keep",
        select=Select(min_motion=0.0),
    )
    scoring._opened.cache_clear()


def lost(tables, stage):
    return [row for row in tables.read("rejects").to_pylist() if row["stage"] == stage]


@pytest.mark.parametrize(
    "stage", ["analyze", "cut", "caption", *(pytest.param(one, marks=SLOW) for one in ("score", "audio"))]
)
def test_a_crash_is_a_dead_letter_that_waits_until_it_is_asked_for(stage, videos, settings, tmp_path):
    victim = max(file.name for file in videos.glob("*.mp4"))
    whole, tables = Tables(tmp_path / "whole"), Tables(tmp_path / "tables")
    clean = prepare(videos, whole, settings, Here())

    # It counts in the budget, which fails the run after all good work is committed.
    tight = settings.model_copy(update={"loss_budget": 0.4})
    with pytest.raises(VidgenError, match="1 of 2 sources were lost to errors") as error:
        prepare(videos, tables, tight, Here(victim, STAGES[stage]))
    assert error.value.exit_code == LOSS_EXIT
    rows = lost(tables, stage)
    reasons = {"caption": "caption_crashed"}
    assert {(row["uri"], row["reason"], row["attempts"]) for row in rows} == {
        (victim, reasons.get(stage, "crashed"), 2)
    }
    assert all("The process that worked on it died" in row["message"] for row in rows)
    told = {row["uri"] for row in explain_source(tables, rows[0]["source_id"]).rejects}
    assert victim in told or {row["level"] for row in rows} == {"span"}

    # Neither the same run, nor one with other keys, nor a plan touches it again.
    again = Here(victim)
    assert "vidgen retry" in prepare(videos, tables, settings, again).notes[-1]
    assert all(step.new == 0 for step in plan(videos, tables, settings).steps)
    if stage in OTHER:
        prepare(videos, tables, settings.model_copy(update=OTHER[stage]), again)
    assert STAGES[stage] not in again.ran
    assert {row["attempts"] for row in lost(tables, stage)} == {2}

    # Asked for, it fails once more and is counted, then succeeds and leaves no trace.
    ask_again(tables, source=victim)
    for _ in range(2):
        prepare(videos, tables, settings, Here(victim, STAGES[stage]))
        assert [row["attempts"] for row in dead_letters(tables)] == [4]
    ask_again(tables, source=victim)
    saved = prepare(videos, tables, settings, Here())
    assert dead_letters(tables) == []
    names = ("sources", "spans", "clips", "scores", "audio", "captions", "rejects")
    assert all(whole.digest(name) == tables.digest(name) for name in names)
    assert saved.release.digest == clean.release.digest


def test_a_caption_that_nobody_needs_costs_no_clip_and_has_its_row(videos, settings, tmp_path):
    victim = min(file.name for file in videos.glob("*.mp4"))
    tables = Tables(tmp_path / "tables")
    easy = settings.model_copy(update={"select": Select(min_motion=0.0, need_caption=False)})
    prepare(videos, tables, easy, Here(victim, "_spool"))
    rows = lost(tables, "caption")
    assert {(row["level"], row["reason"], row["uri"]) for row in rows} == {("part", "caption_crashed", victim)}
    assert {row["clip_id"] for row in rows} <= set(tables.read("clips")["clip_id"].to_pylist())


def test_where_errors_took_every_clip_no_rule_is_to_blame(videos, settings, tmp_path):
    victim, other = sorted(file.name for file in videos.glob("*.mp4"))
    (videos / other).unlink()
    (videos / victim).with_suffix(".vtt").unlink()
    with pytest.raises(VidgenError, match=r"lost to errors \(caption_crashed\)") as error:
        generous = settings.model_copy(update={"loss_budget": 1.0})
        prepare(videos, Tables(tmp_path / "tables"), generous, Here(victim, "_spool"))
    assert error.value.exit_code == EMPTY_EXIT
    assert "The process that worked on it died" in str(error.value)
    assert "vidgen retry" in str(error.value)
    assert "--set" not in str(error.value)


def test_a_crash_over_new_clips_costs_no_clip_that_is_there(videos, tmp_path):
    def asked(least):
        return DataSettings(select=Select(min_motion=least))

    tables = Tables(tmp_path / "tables")
    prepare(videos, tables, asked(None), Here())
    rows = tables.read("spans").to_pylist()
    motions = {row["uri"]: sorted(one["motion"] for one in rows if one["uri"] == row["uri"]) for row in rows}
    victim, among = next((uri, some) for uri, some in motions.items() if some[0] < some[-1])
    strict, loose = asked((among[0] + among[-1]) / 2), asked(None)
    prepare(videos, tables, strict, Here())
    before, wanted = tables.read("clips").sort_by("clip_id"), len(rows)
    for runner in (Here(victim, "_cut_unit"), Here(victim)):
        prepare(videos, tables, loose, runner)
        there = tables.read("clips").sort_by("clip_id")
        own = there.filter(pc.is_in(there["clip_id"], before["clip_id"].combine_chunks()))
        assert own.equals(before)
        assert len(there) < wanted
        assert {row["reason"] for row in lost(tables, "cut")} == {"crashed"}
        assert len(lost(tables, "cut")) + len(there) == wanted
    ask_again(tables, source=victim)
    prepare(videos, tables, loose, Here())
    assert len(tables.read("clips")) == wanted
