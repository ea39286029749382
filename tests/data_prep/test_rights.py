"""Laws of rights: what is stated is told, a change of it decodes nothing, and what is not wanted is dropped or told."""

import json
import shutil

import pytest

from data_prep.card import card
from data_prep.explain import explain_clip, explain_source
from data_prep.forget import contents, forget
from data_prep.plan import plan
from data_prep.prepare import DATA_TABLES, prepare
from data_prep.rights import RIGHTS, count_licenses, licenses_at, licenses_of, note_rights, read_rights
from data_prep.samples import make
from data_prep.select import Select
from data_prep.settings import DataSettings
from data_prep.shot_files import MANIFEST, Encoding, export
from data_prep.sources import identify, list_files
from data_prep.tables import Tables
from data_prep.vacuum import vacuum
from tests.data_prep.runners import InProcess
from vidgen_core.errors import VidgenError

SETTINGS = DataSettings(select=Select(min_motion=None))


def wanting(*licenses):
    return SETTINGS.model_copy(update={"select": Select(min_motion=None, licenses=licenses)})


def state(video, text, **more):
    """As a downloader does."""
    video.with_suffix(".info.json").write_text(json.dumps({"license": text, **more}))


@pytest.fixture(scope="module")
def silent(tmp_path_factory):
    """Videos of which nobody states a license, prepared; they are what an earlier vidgen has left."""
    root = tmp_path_factory.mktemp("silent")
    make(root / "videos", count=3, seed=3)
    assert RIGHTS not in prepare(root / "videos", Tables(root / "tables"), SETTINGS, InProcess()).release.tables
    return root


@pytest.fixture
def home(silent, tmp_path):
    """A copy of it, with its videos."""
    shutil.copytree(silent, tmp_path / "copy")
    folder = tmp_path / "copy" / "videos"
    return folder, Tables(tmp_path / "copy" / "tables"), list_files(folder)


def test_rights_are_read_from_the_list_and_from_what_downloaders_write(tmp_path):
    video = tmp_path / "in" / "a.b.mp4"
    video.parent.mkdir()
    video.touch()
    assert read_rights(video) == {}
    state(video, "Creative Commons Attribution license (reuse allowed)", uploader="me", webpage_url="https://v/1")
    expected = {
        "license": "CC-BY-3.0", "stated": "Creative Commons Attribution license (reuse allowed)",
        "license_origin": "info.json", "attribution": "me", "url": "https://v/1",
    }  # fmt: skip
    assert read_rights(video) == expected
    lines = [{"file": "in/a.b.mp4", "caption": "words"}, {"file": "in/a.b.mp4", "license": "CC0", "caption": None}, 3]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    listed = {**expected, "license": "CC0-1.0", "stated": "CC0", "license_origin": "jsonl"}
    assert read_rights(video) == listed
    # The list of the video's own folder counts before the one above, and "unknown" before any guess.
    (video.parent / "captions.jsonl").write_text('{"file": "a.b.mp4", "license": "unknown", "attribution": "you"}')
    assert read_rights(video) == {**listed, "license": None, "stated": "unknown", "attribution": "you"}


@pytest.mark.parametrize("text", ["", "no json", "[1]", '{"license": 3}', '{"license": null}', "[" * 5000, "\x00"])
def test_a_damaged_sidecar_states_nothing(tmp_path, text):
    (tmp_path / "a.info.json").write_text(text)
    assert read_rights(tmp_path / "a.mp4") == {}


def test_a_stated_license_decodes_nothing_and_changes_no_data(home):
    folder, tables, videos = home
    before, runner = tables.release(DATA_TABLES, beside=[RIGHTS]), InProcess()
    state(videos[0], "CC BY 4.0")
    state(videos[1], "CC0")
    done = prepare(folder, tables, SETTINGS, runner)
    assert (runner.ran, done.decoded_per_source_frame) == ([], {})
    # The model's data is the same; the digest that a schedule looks at is not, so that the gate is asked again.
    after = tables.release(DATA_TABLES, beside=[RIGHTS])
    assert (after.digest, after.tables[RIGHTS].rows) == (before.digest, 2)
    assert done.release.digest != before.digest
    told = "select uri, license, attribution from sources order by uri"
    assert [row["license"] for row in tables.query(told).to_pylist()] == ["CC-BY-4.0", "CC0-1.0", None]
    version = tables.version(RIGHTS)
    assert prepare(folder, tables, SETTINGS, InProcess()).release.digest == done.release.digest
    assert tables.version(RIGHTS) == version
    for video in videos[:2]:
        video.with_suffix(".info.json").unlink()
    assert prepare(folder, tables, SETTINGS, InProcess()).release.digest == before.digest


def test_a_home_without_the_table_tells_that_no_license_is_known(silent, tmp_path):
    tables = Tables(silent / "tables")
    assert set(tables.query("select license from sources")["license"].to_pylist()) == {None}
    clip = tables.read("clips", ["clip_id", "source_id"]).to_pylist()[0]
    assert explain_source(tables, clip["source_id"]).source["license"] is None
    assert explain_clip(tables, clip["clip_id"], wanting("*")).dropped_by.sentence().startswith("licenses: unknown, ")
    assert "unknown" in card(tables, SETTINGS, None, {}).partition("Clips by license")[2][:400]
    release = tables.release(DATA_TABLES, beside=[RIGHTS])
    assert count_licenses(tables, release) == {"unknown": release.tables["clips"].rows}
    assert contents(tables, clip["source_id"])["clips"] >= 1


def test_only_wanted_licenses_become_clips_and_that_is_decided_without_decoding(home):
    folder, tables, videos = home
    before = prepare(folder, tables, SETTINGS, InProcess()).release
    state(videos[0], "CC BY-SA 4.0")
    state(videos[1], "CC BY-NC 4.0")
    ahead = {step.name: step for step in plan(folder, tables, wanting("CC-BY-SA-*")).steps}
    assert RIGHTS not in tables.names()
    runner = InProcess()
    done = prepare(folder, tables, wanting("CC-BY-SA-*"), runner)
    assert (runner.ran, ahead["analyze"].decode_bytes, ahead["cut"].new) == ([], 0, 0)
    assert ahead["decide"].removed == before.tables["clips"].rows - done.release.tables["clips"].rows > 0
    sources = {source.uri: source.source_id for source in identify(list_files(folder), folder)}
    assert set(tables.read("clips")["source_id"].to_pylist()) == {sources[videos[0].name]}
    rows = {row["source_id"]: row for row in tables.read("rejects").to_pylist() if row["reason"] == "licenses"}
    other, unknown = (rows[sources[video.name]] for video in videos[1:])
    assert (other["stage"], other["value"], other["threshold"]) == ("select", 0.0, 1.0)
    assert other["message"] == "licenses: CC-BY-NC-4.0, and CC-BY-SA-* is wanted"
    assert (unknown["value"], unknown["message"]) == (None, "licenses: unknown, and CC-BY-SA-* is wanted")
    story = explain_clip(tables, other["clip_id"], wanting("CC-BY-SA-*"))
    assert (story.dropped_by.sentence(), story.checks[0].passed) == (other["message"], False)
    with pytest.raises(VidgenError, match="by the rule licenses. State licenses beside the videos"):
        prepare(folder, tables, wanting("MIT"), InProcess())
    for video in videos[:2]:
        video.with_suffix(".info.json").unlink()
    assert prepare(folder, tables, SETTINGS, InProcess()).release.digest == before.digest


def test_what_is_forgotten_has_no_rights_left_and_gets_none(home):
    folder, tables, videos = home
    for video in videos:
        state(video, "CC0", uploader="somebody of old")
    prepare(folder, tables, SETTINGS, InProcess())
    gone = tables.read("sources").to_pylist()[0]
    assert forget(tables, gone["source_id"], gone["uri"], []).rows[RIGHTS] == 1
    prepare(folder, tables, SETTINGS, InProcess())
    assert set(licenses_of(tables)) == set(tables.read("sources")["source_id"].to_pylist())
    assert len(licenses_of(tables)) == 2
    everything = [tables.part(RIGHTS, file.stem.removeprefix("part-")) for file in tables.stored(RIGHTS)]
    assert not [rows for rows in everything if gone["source_id"] in rows["source_id"].to_pylist()]


def test_a_release_tells_licenses_as_they_are_now_and_of_sources_that_left_as_they_were(home):
    folder, tables, videos = home
    for video in videos:
        state(video, "CC0")
    prepare(folder, tables, SETTINGS, InProcess())
    release = tables.release(DATA_TABLES, beside=[RIGHTS])
    sources = {source.uri: source.source_id for source in identify(list_files(folder), folder)}
    clips = tables.read("clips")["source_id"].to_pylist()
    left, denied, corrected = (sources[video.name] for video in videos)
    videos[0].unlink()
    videos[1].with_suffix(".info.json").unlink()
    state(videos[2], "CC BY-NC 4.0")
    prepare(folder, tables, SETTINGS, InProcess())
    assert licenses_at(tables, release) == {left: "CC0-1.0", corrected: "CC-BY-NC-4.0"}
    vacuum(tables, [release], keep_days=0)
    counted = {"CC0-1.0": clips.count(left), "unknown": clips.count(denied), "CC-BY-NC-4.0": clips.count(corrected)}
    assert count_licenses(tables, release) == counted
    vacuum(tables, [], keep_days=0)
    lost = count_licenses(tables, release)
    assert lost["unknown"] == clips.count(denied) + clips.count(left)
    assert sum(lost.values()) == len(clips)


def test_copies_have_the_rights_of_the_first_file(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"the same")
    (tmp_path / "b.mp4").write_bytes(b"the same")
    state(tmp_path / "a.mp4", "CC0")
    state(tmp_path / "b.mp4", "MIT")
    tables = Tables(tmp_path / "tables")
    note_rights(identify(list_files(tmp_path), tmp_path), tables)
    assert list(licenses_of(tables).values()) == ["CC0-1.0"]


def test_exported_shots_have_their_license_and_whom_to_name(home, tmp_path):
    folder, tables, videos = home
    state(videos[0], "CC BY 4.0", uploader="somebody")
    prepare(folder, tables, SETTINGS, InProcess())
    sources = identify(list_files(folder), folder)
    (tmp_path / "out").mkdir()
    export(tables, sources, tmp_path / "out", encoding=Encoding(), runner=InProcess())
    rows = [json.loads(line) for line in (tmp_path / "out" / MANIFEST).read_text().splitlines()]
    told = {row["source"]: (row["license"], row["attribution"]) for row in rows}
    assert told == {videos[0].name: ("CC-BY-4.0", "somebody"), **{video.name: (None, None) for video in videos[1:]}}
