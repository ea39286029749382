"""Laws of explain, retry and forget: a story agrees with the decision, a retry counts, what is forgotten stays away."""

import shutil

import pyarrow.parquet as pq
import pytest
import torch

from data_prep import prepare as prepare_module
from data_prep.decode import Undecodable
from data_prep.explain import explain_clip, explain_source
from data_prep.forget import contents, forget
from data_prep.latents import encode_latents
from data_prep.lineage import Named, find, saw
from data_prep.plan import plan
from data_prep.prepare import DATA_TABLES, prepare
from data_prep.retry import ask_again, dead_letters
from data_prep.samples import make
from data_prep.select import Select
from data_prep.settings import DataSettings
from data_prep.tables import Tables
from tests.data_prep.runners import InProcess
from vidgen_core import discovery, weights
from vidgen_core.errors import VidgenError

SETTINGS = DataSettings(select=Select(min_motion=0.8))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = tmp_path_factory.mktemp("done")
    make(root / "videos", count=3, seed=3)
    (root / "videos" / "broken.mp4").write_bytes(b"nothing")
    prepare(root / "videos", Tables(root / "tables"), SETTINGS, InProcess())
    return root


@pytest.fixture
def copy(done, tmp_path):
    shutil.copytree(done, tmp_path / "copy")
    return tmp_path / "copy" / "videos", Tables(tmp_path / "copy" / "tables")


def test_the_story_of_each_clip_is_that_of_the_run(done):
    tables = Tables(done / "tables")
    rejects = {row["clip_id"]: row for row in tables.read("rejects").to_pylist() if row["level"] == "span"}
    kept = set(tables.read("captions")["clip_id"].to_pylist())
    assert rejects
    assert kept
    for clip_id in tables.read("spans")["clip_id"].to_pylist():
        story = explain_clip(tables, clip_id, SETTINGS)
        failed = [check.rule for check in story.checks if check.passed is False]
        assert bool(story.media) == (clip_id in kept) == (story.dropped_by is None) == (not failed)
        if clip_id in rejects:
            assert story.dropped_by.sentence() == rejects[clip_id]["message"] == story.reject["message"]
            assert (failed[0], story.dropped_by.value) == (rejects[clip_id]["reason"], rejects[clip_id]["value"])
        assert story.captions[0][1] in ("vtt", "txt", "srt", "jsonl")
        assert {"motion", "shots", "analysis"} <= set(story.versions)


def test_the_story_of_a_source_counts_every_clip(done):
    tables = Tables(done / "tables")
    for source in tables.read("sources").to_pylist():
        story = explain_source(tables, source["source_id"])
        assert sum(story.counts.values()) == len(story.clips)
        assert story.source["uri"] == source["uri"]
    lost = find(tables, "broken.mp4")
    assert [row["reason"] for row in explain_source(tables, lost.value).rejects] == ["not_a_video"]


def test_a_name_is_an_id_its_beginning_a_file_or_the_end_of_a_path(done, tmp_path):
    tables = Tables(done / "tables")
    span = tables.read("spans").to_pylist()[0]
    clip, source = Named("clip_id", span["clip_id"]), Named("source_id", span["source_id"])
    assert find(tables, span["clip_id"]) == find(tables, span["clip_id"][:10]) == clip
    assert find(tables, span["source_id"]) == find(tables, span["uri"]) == source
    elsewhere = tmp_path / "renamed.mp4"
    shutil.copy(done / "videos" / span["uri"], elsewhere)
    assert find(tables, str(elsewhere)) == source
    with pytest.raises(VidgenError, match="Did you mean 'broken.mp4'"):
        find(tables, "brokn.mp4")
    with pytest.raises(VidgenError, match="no source or file"):
        find(tables, span["clip_id"], clips=False)


def test_a_retry_tries_only_what_was_asked_and_counts_attempts(copy):
    videos, tables = copy
    for attempts in (2, 3):
        assert [row["uri"] for row in ask_again(tables, reason="not_a_video")] == ["broken.mp4"]
        assert plan(videos, tables, SETTINGS).steps[0].stale == {"asked to retry": 1}
        runner = InProcess()
        prepare(videos, tables, SETTINGS, runner)
        assert runner.ran == ["broken.mp4"]
        assert [row["attempts"] for row in dead_letters(tables)] == [attempts]
    runner = InProcess()
    prepare(videos, tables, SETTINGS, runner)
    assert runner.ran == []


def test_what_a_retry_saves_is_as_if_it_had_never_failed(copy, monkeypatch, tmp_path):
    videos, tables = copy
    victim = sorted(videos.glob("shapes-*.mp4"))[0].name
    analyze = prepare_module.analyze

    def failing(source, *rest):
        if source.uri == victim:
            raise Undecodable("bad_day", "The network was away")
        return analyze(source, *rest)

    broken = Tables(tmp_path / "broken")
    monkeypatch.setattr(prepare_module, "analyze", failing)
    assert prepare(videos, broken, SETTINGS, InProcess()).reasons["bad_day"] == 1
    monkeypatch.setattr(prepare_module, "analyze", analyze)
    ask_again(broken, source=victim)
    assert prepare(videos, broken, SETTINGS, InProcess()).release.digest == tables.release(DATA_TABLES).digest


def test_asking_to_retry_nothing_is_a_sentence(copy):
    tables = copy[1]
    with pytest.raises(VidgenError, match=r"not_a_video \(1\)"):
        ask_again(tables, reason="crashed")
    with pytest.raises(VidgenError, match="Errors did not take"):
        ask_again(tables, source=tables.read("sources")["uri"][0].as_py())


def traces(tables, ids):
    """Files below the tables that hold any of some texts in a column."""
    found = []
    for file in tables.root.rglob("*.parquet"):
        for column in pq.read_table(file, partitioning=None).to_pydict().values():
            if any(value in ids for value in column if isinstance(value, str)):
                found.append(file)
    return found


def test_what_is_forgotten_is_in_no_file_of_any_version_and_stays_away(copy, tmp_path):
    videos, tables = copy
    torch.manual_seed(0)
    config = discovery.load("vidgen_core.codecs", "identity").Config()
    weights.save(tmp_path / "codec", config.build().state_dict(), {"name": "identity", "config": config.model_dump()})
    latents = encode_latents(tables, tmp_path / "codec", InProcess())
    uri = tables.query("select any_value(uri) uri from spans join clips using (clip_id)")["uri"][0].as_py()
    source = find(tables, uri)
    clips = set(tables.query(f"select clip_id from spans where source_id = '{source.value}'")["clip_id"].to_pylist())
    others = {
        name: {row["clip_id"] for row in tables.read(name, ["clip_id"]).to_pylist()} - clips
        for name in ("clips", "spans")
    }
    before = tables.release([*DATA_TABLES, latents])
    empty = tables.release([])
    assert saw(tables, [before, empty], source) == ([before.digest], [])
    counts = contents(tables, source.value)
    assert {"sources", "spans", "clips", "captions", latents} <= set(counts)
    removed = forget(tables, source.value, uri, [before.digest])
    assert removed.rows == counts
    assert contents(tables, source.value) == {}
    assert {file.parent.name for file in traces(tables, {source.value, uri, *clips})} == {"forgotten"}
    left = {name: set(tables.read(name, ["clip_id"])["clip_id"].to_pylist()) for name in ("clips", "spans")}
    assert left == others
    assert len(tables.query(f'select * from "{latents.replace("/", "_")}"')) == len(left["clips"])
    assert saw(tables, [before], source) == ([before.digest], [])
    other = find(tables, tables.read("clips", ["source_id"])["source_id"][0].as_py())
    assert saw(tables, [before], other) == ([before.digest], [])
    assert saw(tables, [before], Named("source_id", "nobody")) == ([], [])
    runner = InProcess()
    after = prepare(videos, tables, SETTINGS, runner)
    assert runner.ran == []
    assert after.reasons["forgotten"] == 1
    counted = {row.name: row.rows for row in after.funnel}
    assert counted["files"] == counted["sources committed"] + counted["sources rejected"]
    assert tables.read("forgotten")["releases"].to_pylist() == [before.digest]
    assert plan(videos, tables, SETTINGS).forgotten == 1
