"""Laws of prepare: every file accounted for, nothing done twice, the same result however it was reached."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest

from data_prep import losses
from data_prep.decode import take_decoded
from data_prep.prepare import CARRIED, candidates, prepare
from data_prep.run import Failure, PoolRunner, RayRunner
from data_prep.samples import make
from data_prep.select import Select, judge
from data_prep.settings import DataSettings
from data_prep.tables import Tables
from tests.data_prep.runners import InProcess
from vidgen_core.clip import decode_clips
from vidgen_core.errors import VidgenError

SETTINGS = DataSettings()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    make(folder, count=6, seed=3)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "page.mp4").write_text("<html>not a video</html>")
    (folder / "copy.mp4").write_bytes(next(folder.glob("shapes-*.mp4")).read_bytes())
    return folder


@pytest.fixture(scope="module")
def prepared(videos, tmp_path_factory):
    tables = Tables(tmp_path_factory.mktemp("home") / "tables")
    take_decoded()  # other tests of this process have decoded too
    return prepare(videos, tables, SETTINGS, InProcess()), tables


def rows(funnel):
    return {row.name: row.rows for row in funnel}


def test_sources_in_are_sources_committed_plus_sources_rejected(prepared):
    counts = rows(prepared[0].funnel)
    assert counts["files"] == counts["sources committed"] + counts["sources rejected"] == 9
    assert counts["spans"] == counts["clips"] + counts["spans dropped"]


def test_each_reject_says_what_and_why(prepared):
    rejects = prepared[1].read("rejects").to_pylist()
    reasons = {row["uri"]: row["reason"] for row in rejects if row["level"] == "source"}
    assert reasons["empty.mp4"] == "empty_file"
    assert reasons["page.mp4"] == "not_a_video"
    assert "duplicate" in reasons.values()
    assert all(row["message"] for row in rejects)


def test_clips_have_the_recipes_shape_their_captions_and_move(prepared):
    clips = prepared[1].read("clips").to_pylist()
    pictures = decode_clips([clip["media"] for clip in clips])
    assert pictures.shape[1:] == (9, 32, 32, 3)
    captions = {row["clip_id"]: row["caption"] for row in prepared[1].read("captions").to_pylist()}
    assert set(captions) == {clip["clip_id"] for clip in clips}
    assert all(captions.values())
    assert np.abs(np.diff(pictures.astype(int), axis=1)).mean() > 0.1


def test_doing_it_again_does_nothing_and_gives_the_same_release(videos, prepared):
    runner = InProcess()
    again = prepare(videos, prepared[1], SETTINGS, runner)
    assert runner.ran == []
    assert again.release == prepared[0].release


class Edits(InProcess):
    """Somebody writes a file after the run has listed it and before its tasks run."""

    def __init__(self, file, text):
        super().__init__()
        self._file, self._text = file, text

    def map(self, function, items, *, deadline_s=0.0):
        self._file.write_text(self._text)
        yield from super().map(function, items)


@pytest.mark.parametrize("name", ["captions.jsonl", "one.vtt"])
def test_captions_that_change_during_a_run_are_kept_under_no_key_but_their_own(name, videos, tmp_path):
    def spelled(words):
        if name.endswith("vtt"):
            return f"WEBVTT\n\n00:00.000 --> 99:00.000\n{words}\n"
        return json.dumps({"file": "one.mp4", "caption": words})

    folder, tables = tmp_path / "videos", Tables(tmp_path / "tables")
    folder.mkdir()
    for film, other in zip(sorted(videos.glob("shapes-*.mp4")), ("one.mp4", "two.mp4"), strict=False):
        shutil.copy(film, folder / other)
    (folder / "two.txt").write_text("two")
    said = []
    for before, after in (("first", "later"), ("later", "later")):
        (folder / name).write_text(spelled(before))
        prepare(folder, tables, SETTINGS.model_copy(update={"loss_budget": 1.0}), Edits(folder / name, spelled(after)))
        said.append({row["caption"] for row in tables.read("spans").to_pylist()} - {"two"})
    assert said == [set() if name.endswith("vtt") else {"first"}, {"later"}]
    assert "captions_changed" not in {row["reason"] for row in tables.read("rejects").to_pylist()}


def test_processes_give_the_same_release_as_this_process(videos, prepared, tmp_path):
    other = prepare(videos, Tables(tmp_path / "tables"), SETTINGS, PoolRunner(2))
    assert other.release.digest == prepared[0].release.digest


@pytest.mark.ray
@pytest.mark.slow
def test_ray_gives_the_same_release_as_this_process(videos, prepared, tmp_path, ray_session):
    other = prepare(videos, Tables(tmp_path / "tables"), SETTINGS, RayRunner())
    assert other.release.digest == prepared[0].release.digest


@pytest.mark.parametrize(
    "select", [Select(), Select(min_motion=2.0, max_noise=3.0), Select(min_motion=None, drop_share={"min_motion": 0.5})]
)
def test_spans_with_fewer_columns_are_judged_as_those_with_all(prepared, select):
    settings = DataSettings(select=select)
    (every, strict), (some, same) = (candidates(prepared[1], settings, columns=names) for names in (None, CARRIED))
    assert strict == same
    assert set(CARRIED) < set(some.column_names) < set(every.column_names)
    rejects = [losses.dropped_spans(spans, judge(spans, strict)) for spans in (every, some)]
    assert rejects[0].equals(rejects[1])


def test_a_threshold_decodes_nothing_and_cuts_only_what_changed(videos, prepared, tmp_path):
    tables = Tables(tmp_path / "tables")
    prepare(videos, tables, SETTINGS, InProcess())
    runner = InProcess()
    loose = SETTINGS.model_copy(update={"select": Select(min_motion=0.0)})
    more = prepare(videos, tables, loose, runner)
    static = {row["uri"] for row in prepared[1].read("rejects").to_pylist() if row["reason"] == "min_motion"}
    assert runner.ran
    assert set(runner.ran) <= static
    assert rows(more.funnel)["clips"] >= rows(prepared[0].funnel)["clips"]
    back = prepare(videos, tables, SETTINGS, InProcess())
    assert back.release.digest == prepared[0].release.digest


def test_a_source_that_is_gone_leaves_the_tables(videos, tmp_path):
    folder, tables = tmp_path / "videos", Tables(tmp_path / "tables")
    make(folder, count=3, seed=3)
    prepare(folder, tables, SETTINGS, InProcess())
    gone = sorted(folder.glob("shapes-*.mp4"))[0]
    gone.unlink()
    prepare(folder, tables, SETTINGS, InProcess())
    assert gone.name not in tables.read("sources")["uri"].to_pylist()


KILLED = """
import sys
from pathlib import Path
from data_prep.prepare import prepare
from data_prep.run import PoolRunner
from data_prep.settings import DataSettings
from data_prep.tables import Tables
if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Tables(Path(sys.argv[2])), DataSettings(), PoolRunner(2))
"""


def test_killed_at_any_time_it_finishes_with_the_same_release(videos, prepared, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    tables = Tables(tmp_path / "tables")
    for wait_s in (2.0, 3.5):
        command = [sys.executable, str(script), str(videos), str(tables.root)]
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}  # noqa: PTH109
        process = subprocess.Popen(command, start_new_session=True, env=environment, stderr=subprocess.DEVNULL)
        time.sleep(wait_s)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert prepare(videos, tables, SETTINGS, InProcess()).release.digest == prepared[0].release.digest


def test_a_folder_without_videos_gets_a_sentence_with_the_next_move(tmp_path):
    for folder, what in ((tmp_path / "nowhere", "no such folder"), (tmp_path, "empty")):
        with pytest.raises(VidgenError, match=what):
            prepare(folder, Tables(tmp_path / "tables"), SETTINGS, InProcess())
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(VidgenError, match="None of the folder's 1 files is a video"):
        prepare(tmp_path, Tables(tmp_path / "tables"), SETTINGS, InProcess())


def test_when_nothing_is_kept_the_run_fails_and_names_the_rule(videos, tmp_path):
    strict = SETTINGS.model_copy(update={"select": Select(min_motion=200.0)})
    with pytest.raises(VidgenError, match="min_motion"):
        prepare(videos, Tables(tmp_path / "tables"), strict, InProcess())


def _misbehave(item):
    if item == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            pass
    return item.upper()


def test_a_crash_and_a_hang_cost_their_own_items_only():
    items = ["a", "crash", "b", "hang", "c"]
    results = dict(PoolRunner(2).map(_misbehave, items, deadline_s=3.0))
    assert {item for item, result in results.items() if isinstance(result, Failure)} == {"crash", "hang"}
    assert [results[item] for item in "abc"] == ["A", "B", "C"]


@pytest.mark.slow
def test_no_decodable_real_file_is_rejected_and_every_file_is_accounted_for(shared_data, tmp_path):
    tables = Tables(tmp_path / "tables")
    done = prepare(shared_data / "videos", tables, SETTINGS, PoolRunner())
    truth = [json.loads(line) for line in (shared_data / "captions.jsonl").read_text().splitlines()]
    undecodable = {row["file"].removeprefix("videos/") for row in truth if not row["decoded_frames"]}
    lost = {row["uri"] for row in tables.read("rejects").to_pylist() if row["level"] == "source"}
    assert lost == undecodable
    counts = rows(done.funnel)
    assert counts["files"] == len(truth) == counts["sources committed"] + counts["sources rejected"]
    frames = {row["uri"]: row["frames"] for row in tables.read("sources").to_pylist()}
    right = Counter(
        frames[f] >= r["decoded_frames"] for r in truth if (f := r["file"].removeprefix("videos/")) in frames
    )
    assert right[True] >= 0.98 * sum(right.values())


def test_each_pass_says_how_often_it_decoded_a_source_frame(videos, prepared):
    decoded = prepared[0].decoded_per_source_frame
    assert decoded["analyze"] == pytest.approx(1.0, abs=0.1)
    assert 0 < decoded["cut"] <= 1.0
    for row in prepared[1].read("sources").to_pylist():
        assert row["frames"] <= row["decoded_frames"] <= 1.1 * row["frames"]
    assert prepare(videos, prepared[1], SETTINGS, InProcess()).decoded_per_source_frame == {}
