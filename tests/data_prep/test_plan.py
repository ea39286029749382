"""Laws of plan and cut: a plan is what then happens, what is there is not made again, losses have a budget."""

import contextlib
import shutil

import pyarrow as pa
import pytest

from data_prep import captioning, cutting
from data_prep import prepare as prepare_module
from data_prep import units as units_module
from data_prep.captioning import GENERATED
from data_prep.latents import encode_latents
from data_prep.losses import LOSS_EXIT
from data_prep.plan import plan
from data_prep.prepare import prepare
from data_prep.samples import make
from data_prep.select import Select
from data_prep.settings import DataSettings
from data_prep.stages import black_bars
from data_prep.tables import SCHEMAS, Tables
from data_prep.verify import verify_latents
from tests.data_prep.runners import InProcess
from vidgen_core import clip as clips_module
from vidgen_core import weights
from vidgen_core.errors import VidgenError

SETTINGS = DataSettings(select=Select(min_motion=None))


@pytest.fixture
def encodes(monkeypatch):
    """Clips encoded and sources analyzed so far."""
    counted = {"encoded": 0, "analyzed": 0}
    encode, analyze = clips_module.encode, prepare_module.analyze

    def counting_encode(*arguments):
        counted["encoded"] += 1
        return encode(*arguments)

    def counting_analyze(*arguments):
        counted["analyzed"] += 1
        return analyze(*arguments)

    monkeypatch.setattr(clips_module, "encode", counting_encode)
    monkeypatch.setattr(prepare_module, "analyze", counting_analyze)
    return counted


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder of videos and the tables of its preparation; tests take a copy."""
    root = tmp_path_factory.mktemp("done")
    make(root / "videos", count=4, seed=3)
    (root / "videos" / "broken.mp4").write_bytes(b"nothing")
    prepare(root / "videos", Tables(root / "tables"), SETTINGS, InProcess())
    return root


@pytest.fixture
def copy(done, tmp_path):
    shutil.copytree(done, tmp_path / "copy")
    return tmp_path / "copy" / "videos", Tables(tmp_path / "copy" / "tables")


def steps(videos, tables, settings, latents=""):
    return {step.name: step for step in plan(videos, tables, settings, latents=latents).steps}


def with_motion(least):
    return SETTINGS.model_copy(update={"select": Select(min_motion=least)})


def some_source_with_spans_on_both_sides(tables):
    """A motion between those of two spans of one source."""
    rows = tables.read("spans").to_pylist()
    for source in {row["source_id"] for row in rows}:
        motions = sorted({row["motion"] for row in rows if row["source_id"] == source})
        if len(motions) > 1:
            return (motions[0] + motions[1]) / 2
    raise AssertionError("no source has two spans")


def test_loosening_encodes_only_newly_kept_clips_and_ends_as_if_never_tightened(copy, encodes):
    videos, tables = copy
    before = tables.release(["clips", "captions", "rejects"])
    all_clips = len(tables.read("clips"))
    strict = with_motion(some_source_with_spans_on_both_sides(tables))
    prepare(videos, tables, strict, InProcess())
    kept = len(tables.read("clips"))
    assert kept < all_clips
    assert encodes == {"encoded": 0, "analyzed": 0}
    prepare(videos, tables, SETTINGS, InProcess())
    assert encodes == {"encoded": all_clips - kept, "analyzed": 0}
    assert tables.release(["clips", "captions", "rejects"]).digest == before.digest


class StopsAfter:
    """Runs some tasks here, and is stopped."""

    def __init__(self, tasks):
        self.tasks = tasks

    def map(self, function, items, *, deadline_s=0.0):
        for item in items:
            if self.tasks == 0:
                raise KeyboardInterrupt
            self.tasks -= 1
            yield item, function(item)


def test_stopped_among_sources_whose_choice_changed_nothing_is_lost_or_encoded_twice(copy, encodes, monkeypatch):
    videos, tables = copy
    monkeypatch.setattr(units_module.Pace, "due", lambda self, finished: True)
    before = tables.release(["clips", "captions", "rejects"])
    strict = with_motion(some_source_with_spans_on_both_sides(tables))
    prepare(videos, tables, strict, InProcess())
    missing = before.tables["clips"].rows - len(tables.read("clips"))
    for _ in range(4):
        with contextlib.suppress(KeyboardInterrupt):
            prepare(videos, tables, SETTINGS, StopsAfter(1))
    assert encodes == {"encoded": missing, "analyzed": 0}
    assert (
        prepare(videos, tables, SETTINGS, InProcess()).release.tables["clips"].digest == before.tables["clips"].digest
    )


def test_a_plan_writes_nothing_decodes_nothing_and_is_what_then_happens(copy, encodes):
    videos, tables = copy
    strict = with_motion(some_source_with_spans_on_both_sides(tables))
    prepare(videos, tables, strict, InProcess())
    kept = tables.read("clips", ["clip_id"]).num_rows
    versions = {name: tables.version(name) for name in ("sources", "spans", "clips", "captions", "rejects")}
    cut = steps(videos, tables, SETTINGS)["cut"]
    assert {name: tables.version(name) for name in versions} == versions
    assert encodes == {"encoded": 0, "analyzed": 0}
    prepare(videos, tables, SETTINGS, InProcess())
    assert (cut.new, cut.reused, cut.removed) == (encodes["encoded"], kept, 0)
    after = steps(videos, tables, SETTINGS)
    assert all(step.new + sum(step.stale.values()) + step.removed + step.unknown == 0 for step in after.values())


def test_a_plan_of_new_videos_says_so_and_what_it_cannot_know(copy, tmp_path):
    videos, tables = copy
    fresh = steps(videos, Tables(tmp_path / "none"), SETTINGS)
    assert (fresh["analyze"].new, fresh["analyze"].reused) == (5, 0)
    assert not (tmp_path / "none").exists()
    first = sorted(videos.glob("shapes-*.mp4"))[0]
    clips = tables.query(f"select count(*) n from clips join sources using (source_id) where uri = '{first.name}'")
    first.unlink()
    gone = steps(videos, tables, SETTINGS)
    assert gone["analyze"].removed == 1
    assert gone["cut"].removed == gone["decide"].removed == clips["n"][0].as_py()


def test_a_plan_says_why_a_source_is_stale(copy, monkeypatch):
    videos, tables = copy
    finer = SETTINGS.model_copy(update={"shots": SETTINGS.shots.model_copy(update={"threshold": 0.6})})
    analysis = steps(videos, tables, finer)["analyze"]
    assert analysis.stale == {"setting shots.threshold": 5}
    first = sorted(videos.glob("shapes-*.mp4"))[0]
    first.with_suffix(".vtt").unlink(missing_ok=True)
    first.with_suffix(".txt").write_text("something else")
    analysis = steps(videos, tables, SETTINGS)["analyze"]
    assert analysis.stale == {"captions beside the video": 1}
    assert analysis.reused == 4
    assert analysis.decode_bytes == first.stat().st_size
    from data_prep.stages import motion

    monkeypatch.setattr(motion, "VERSION", motion.VERSION + 1)
    stale = steps(videos, tables, SETTINGS)["analyze"].stale
    assert stale["version of stage motion"] == 4


def test_a_changed_stage_analyzes_again_and_encodes_nothing(copy, encodes, monkeypatch):
    from data_prep.stages import motion

    videos, tables = copy
    monkeypatch.setattr(motion, "VERSION", motion.VERSION + 1)
    cut = steps(videos, tables, SETTINGS)["cut"]
    assert cut.unknown == len(tables.read("clips"))
    prepare(videos, tables, SETTINGS, InProcess())
    assert encodes == {"encoded": 0, "analyzed": 5}


def cropped_otherwise(monkeypatch):
    score = black_bars.score
    monkeypatch.setattr(black_bars, "VERSION", 99)
    monkeypatch.setattr(black_bars, "score", lambda view: score(view) | {"crop_x": 4, "crop_w": view.width - 4})


def encoded_otherwise(monkeypatch):
    monkeypatch.setattr(cutting, "ENCODING_VERSION", 99)
    monkeypatch.setitem(clips_module._X264, "crf", "40")


@pytest.mark.parametrize("changed", [cropped_otherwise, encoded_otherwise])
def test_latents_of_clips_that_are_cut_otherwise_are_planned_and_made_again(copy, tmp_path, monkeypatch, changed):
    videos, tables = copy
    weights.save(tmp_path / "codec", {}, {"name": "identity", "config": {}})
    name = encode_latents(tables, tmp_path / "codec", InProcess(), unit_clips=3)
    clips, ids = len(tables.read("clips")), tables.read("clips", ["clip_id"])
    there = steps(videos, tables, SETTINGS, name)["code"]
    assert (there.reused, there.new, there.stale, there.removed, there.unknown) == (clips, 0, {}, 0, 0)
    changed(monkeypatch)
    code = steps(videos, tables, SETTINGS, name)["code"]
    # What new crops will be is known when the sources have been analyzed.
    assert (code.stale, code.unknown) in [({"crop or encoding": clips}, 0), ({}, clips)]
    assert (code.reused, code.new, code.removed) == (0, 0, 0)
    prepare(videos, tables, SETTINGS, InProcess())
    assert tables.read("clips", ["clip_id"]).sort_by("clip_id") == ids.sort_by("clip_id")
    assert steps(videos, tables, SETTINGS, name)["code"].stale == {"crop or encoding": clips}
    assert len(verify_latents(tables, tmp_path / "codec", share=1.0).mismatches) == clips
    encode_latents(tables, tmp_path / "codec", InProcess())
    assert verify_latents(tables, tmp_path / "codec", share=1.0).mismatches == ()
    assert steps(videos, tables, SETTINGS, name)["code"] == there


def test_losses_above_the_budget_fail_the_run_after_all_good_work_is_committed(copy, done):
    videos, tables = copy
    assert prepare(videos, tables, SETTINGS, InProcess()).reasons["not_a_video"] == 1
    clips = tables.digest("clips")
    generous = SETTINGS.model_copy(update={"loss_budget": 0.2})
    prepare(videos, tables, generous, InProcess())
    with pytest.raises(VidgenError, match="1 of 5 sources were lost to errors") as caught:
        prepare(videos, Tables(copy[0] / "fresh"), SETTINGS.model_copy(update={"loss_budget": 0.19}), InProcess())
    assert caught.value.exit_code == LOSS_EXIT
    assert Tables(copy[0] / "fresh").digest("clips") == clips


def test_a_plan_takes_captions_that_are_to_come_for_granted(copy, monkeypatch):
    videos, tables = copy
    monkeypatch.setattr(captioning, "_keys", lambda spans, _: {s["clip_id"]: [(s["clip_id"], "what?")] for s in spans})
    for file in videos.glob("*.vtt"):
        file.unlink()
    silent = SETTINGS.model_copy(update={"captioner": SETTINGS.captioner.model_copy(update={"weights": "some"})})
    prepare(
        videos, tables, SETTINGS.model_copy(update={"select": Select(min_motion=None, need_caption=False)}), InProcess()
    )
    clips = len(tables.read("clips"))
    before = steps(videos, tables, silent)
    assert before["caption"].new == clips
    assert (before["decide"].removed, before["cut"].removed) == (0, 0)
    rows = [dict.fromkeys(SCHEMAS[GENERATED].names) | {"key": key, "clip_id": key, "caption": "words", "status": "ok",
            "attempts": 1} for key in tables.read("clips")["clip_id"].to_pylist()]  # fmt: skip
    tables.replace(GENERATED, pa.Table.from_pylist(rows, SCHEMAS[GENERATED]))
    assert steps(videos, tables, silent)["caption"].reused == clips
