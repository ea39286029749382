"""Laws of matching captions that a captioner writes: last of all, only where all else is passed, and explained."""

import itertools

import pytest

from data_prep import scoring
from data_prep.explain import explain_clip
from data_prep.plan import plan
from data_prep.prepare import prepare
from data_prep.samples import make
from data_prep.score_settings import ClipSettings, ScoreSettings
from data_prep.scorers import text_video_match
from data_prep.select import Select
from data_prep.settings import DataSettings
from data_prep.tables import Tables

GOOD, BAD = "It is as it is said", "Something else altogether"


@pytest.fixture(name="seen")
def _seen(monkeypatch):
    """A model that knows good captions by their text; the captions that it has looked at."""
    looked = []

    class Match:
        def score(self, stills, caption):
            looked.append(caption)
            return {"text_video_match": 0.9 if caption.startswith(GOOD) else 0.1}

    monkeypatch.setattr(text_video_match, "open_scorer", lambda settings: Match())
    scoring._opened.cache_clear()
    yield looked
    scoring._opened.cache_clear()


@pytest.fixture(name="videos")
def _videos(tmp_path):
    folder = tmp_path / "videos"
    make(folder, count=2, seed=3)
    min(folder.glob("*.vtt")).unlink()
    return folder


@pytest.fixture(name="settings")
def _settings(server):
    number = itertools.count()
    server.say = lambda request: f"{GOOD if next(number) % 2 else BAD}, number {number}."
    return DataSettings(
        captioner=server.settings(always=True, repeat_share=1.0),
        scores=ScoreSettings(text_video_match=ClipSettings(weights="tiny")),
        select=Select(min_text_video_match=0.5),
    )


def generated(tables):
    rows = tables.read("generated_captions").to_pylist()
    return {row["clip_id"]: row["caption"] for row in rows if row["status"] == "ok"}


def test_what_passes_all_else_is_captioned_then_matched_then_decided(videos, settings, seen, tmp_path, here):
    tables = Tables(tmp_path / "tables")
    prepare(videos, tables, settings, here())
    said = generated(tables)
    rejects = {row["clip_id"]: row for row in tables.read("rejects").to_pylist() if row["level"] == "span"}
    kept = set(tables.read("clips")["clip_id"].to_pylist())
    good = {clip for clip, caption in said.items() if caption.startswith(GOOD)}
    assert kept == good
    assert 0 < len(good) < len(said)
    unfit = {clip for clip, row in rejects.items() if row["reason"] == "min_text_video_match"}
    assert unfit == said.keys() - good
    assert all((rejects[clip]["value"], rejects[clip]["threshold"]) == (0.1, 0.5) for clip in unfit)
    # Nobody was asked about what fails another rule, and no caption was looked at twice.
    assert not said.keys() & {clip for clip, row in rejects.items() if row["reason"] == "min_motion"}
    assert sorted(seen) == sorted(said.values())
    dropped, fine = explain_clip(tables, min(unfit), settings), explain_clip(tables, min(good), settings)
    assert (dropped.dropped_by.rule, dropped.dropped_by.value) == ("min_text_video_match", 0.1)
    assert fine.dropped_by is None
    assert next(check for check in fine.checks if check.rule == "min_text_video_match").value == 0.9


def test_done_again_it_matches_nothing_and_another_threshold_scores_nothing(
    videos, settings, seen, server, tmp_path, here
):
    tables = Tables(tmp_path / "tables")
    before = prepare(videos, tables, settings, here())
    asked = len(seen), sum(server.captioned().values())
    runner = here()
    assert prepare(videos, tables, settings, runner).release == before.release
    assert runner.ran == []
    loose = settings.model_copy(update={"select": Select(min_text_video_match=0.0)})
    prepare(videos, tables, loose, here())
    assert set(tables.read("clips")["clip_id"].to_pylist()) == generated(tables).keys()
    assert (len(seen), sum(server.captioned().values())) == asked
    assert prepare(videos, tables, settings, here()).release.digest == before.release.digest
    share = Select(drop_share={"min_text_video_match": 0.2})
    prepare(videos, tables, settings.model_copy(update={"select": share}), here())
    assert len(seen) == asked[0]


def test_a_plan_does_not_count_as_lost_what_waits_for_its_caption(videos, settings, seen, tmp_path, here):
    tables = Tables(tmp_path / "tables")
    prepare(videos, tables, settings.model_copy(update={"select": Select(), "scores": ScoreSettings()}), here())
    steps = {step.name: step for step in plan(videos, tables, settings).steps}
    assert steps["match"].new == 2
    assert (steps["decide"].removed, steps["cut"].removed) == (0, 0)
    assert steps["decide"].unknown > 0
    assert seen == []


def test_what_could_not_be_captioned_waits_and_is_dropped_by_no_rule(videos, settings, seen, server, tmp_path, here):
    tables = Tables(tmp_path / "tables")
    lost = []

    def behave(request, number):
        lost.extend([] if lost or request.try_out else [request.pictures])
        return "500" if lost == [request.pictures] else ""

    server.behave = behave
    silent = settings.model_copy(update={"captioner": settings.captioner.model_copy(update={"always": False})})
    prepare(videos, tables, silent, here())
    (row,) = [row for row in tables.read("rejects").to_pylist() if row["stage"] == "caption"]
    story = explain_clip(tables, row["clip_id"], silent)
    assert story.dropped_by is None
    assert "HTTP 500" in story.reject["message"]


def test_without_a_captioner_captions_beside_the_videos_are_matched_before_anything_is_decided(
    videos, settings, seen, tmp_path, here
):
    tables = Tables(tmp_path / "tables")
    prepare(videos, tables, settings, here())
    bare = settings.model_copy(update={"captioner": DataSettings().captioner, "select": Select(need_caption=False)})
    release = prepare(videos, tables, bare, here()).release
    assert len(tables.read("caption_scores")) == 0
    assert len(tables.read("scores")) == len(tables.read("spans"))
    assert prepare(videos, Tables(tmp_path / "fresh"), bare, here()).release.digest == release.digest
