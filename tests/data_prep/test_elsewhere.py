"""Laws of videos and tables on S3: the same release as in a folder, nothing brought twice, takedown is complete."""

from collections import Counter

import pyarrow as pa
import pytest

from data_prep import row_digests
from data_prep.card import card
from data_prep.explain import explain_clip
from data_prep.fetching import OBJECTS
from data_prep.forget import forget
from data_prep.latents import encode_latents
from data_prep.lineage import find
from data_prep.plan import plan
from data_prep.prepare import DATA_TABLES, prepare
from data_prep.rights import RIGHTS
from data_prep.samples import make
from data_prep.select import Select
from data_prep.settings import DataSettings
from data_prep.storage import Place, filesystem, place_of
from data_prep.tables import SCHEMAS, Tables
from data_prep.vacuum import vacuum
from tests.data_prep.runners import InProcess
from vidgen_core import discovery, weights
from vidgen_core.errors import VidgenError

SETTINGS = DataSettings(select=Select(min_motion=0.8))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Videos with captions of all kinds, two of the same bytes, and one that is none."""
    folder = tmp_path_factory.mktemp("videos")
    make(folder / "some shapes", count=2, seed=3)
    first, second = sorted((folder / "some shapes").glob("*.mp4"))
    (folder / "broken.mp4").write_bytes(b"nothing")
    (folder / "copy #1 & only.mp4").write_bytes(first.read_bytes())
    second.with_suffix(".txt").write_text("a caption of its own")
    for file in (first, second):
        file.with_suffix(".info.json").write_text('{"license": "CC BY 4.0", "uploader": "somebody"}')
    return folder


def uploaded(folder, uri):
    files = filesystem("s3")
    files.mkdirs(uri.split("/")[2], exist_ok=True)
    for file in folder.rglob("*"):
        if file.is_file():
            files.put_file(str(file), f"{uri}/{file.relative_to(folder).as_posix()}")
    return uri


@pytest.fixture(scope="module")
def both(s3, videos, tmp_path_factory):
    """The same videos prepared from a folder into a folder, and from S3 into S3, in a bucket that keeps versions."""
    root = tmp_path_factory.mktemp("both")
    filesystem("s3").mkdirs("laws")
    filesystem("s3").call_s3("put_bucket_versioning", Bucket="laws", VersioningConfiguration={"Status": "Enabled"})
    uri = uploaded(videos, "s3://laws/raw")
    here, away = Tables(root / "tables"), Tables(root / "away", Place("s3://laws/tables"))
    expected = prepare(videos, here, SETTINGS, InProcess())
    s3.forget_asked()
    got = prepare(uri, away, SETTINGS, InProcess())
    return here, away, uri, (expected, got), Counter(s3.brought(".mp4"))


def test_s3_gives_the_release_of_a_folder_and_each_video_comes_once(both):
    here, away, _, (expected, got), brought = both
    assert got.release.digest == expected.release.digest
    assert {name: state.digest for name, state in got.release.tables.items()} == {
        name: here.digest(name) for name in (*DATA_TABLES, RIGHTS)
    }
    assert set(away.names()) == {*here.names(), OBJECTS}
    assert len(brought) == 4
    assert set(brought.values()) == {1}
    assert not [file for file in (away.root / "fetched").rglob("*.mp4")]


class Stops(InProcess):
    """Interrupted once a source has been analyzed."""

    def map(self, function, items, *, deadline_s=0.0):
        for done in super().map(function, items):
            yield done
            if self.ran:
                raise KeyboardInterrupt


def test_a_run_that_is_interrupted_leaves_no_video_on_this_machine(both, tmp_path):
    tables = Tables(tmp_path / "tables")
    with pytest.raises(KeyboardInterrupt):
        prepare(both[2], tables, SETTINGS, Stops())
    assert not list((tables.root / "fetched").rglob("*.mp4"))


def test_a_second_run_and_a_plan_bring_and_do_nothing(both, s3):
    _, away, uri, (_, first), _ = both
    s3.forget_asked()
    steps = plan(uri, away, SETTINGS).steps
    assert {step.name: (step.new, sum(step.stale.values()), step.decode_bytes) for step in steps} == {
        "analyze": (0, 0, 0), "decide": (0, 0, 0), "cut": (0, 0, 0)}  # fmt: skip
    runner = InProcess()
    assert prepare(uri, away, SETTINGS, runner).release.digest == first.release.digest
    assert not runner.ran
    assert not [path for kind in (".mp4", ".txt", ".jsonl", ".parquet") for path in s3.brought(kind)]
    assert not [path for method, path in s3.asked if method != "GET" and method != "HEAD"]


@pytest.mark.slow
def test_a_machine_without_copies_reads_the_same_and_brings_no_media_for_it(both, s3, tmp_path, monkeypatch):
    here, away, uri, (expected, _), _ = both
    monkeypatch.setattr("data_prep.tables.WHOLE_BYTES", 8000)
    fresh = Tables(tmp_path / "copies", away.place)
    s3.forget_asked()
    sql = "select source_id, count(*) n from spans join clips using (source_id, clip_id) group by 1 order by 1"
    assert fresh.query(sql).to_pylist() == here.query(sql).to_pylist()
    clip = here.query("select clip_id from spans order by 1 limit 1")["clip_id"][0].as_py()
    assert explain_clip(fresh, find(fresh, clip).value, SETTINGS) == explain_clip(here, clip, SETTINGS)
    assert all(step.new == 0 and not step.stale for step in plan(uri, fresh, SETTINGS).steps)
    assert not s3.brought(".mp4")
    assert not any(file.exists() for file in fresh.listed("clips"))
    assert "min_motion" in card(fresh, SETTINGS, uri, {})
    assert fresh.digest("clips") == here.digest("clips")


def test_latents_are_mapped_from_copies_and_are_those_of_a_folder(both, tmp_path):
    here, away, _, _, _ = both
    config = discovery.load("vidgen_core.codecs", "identity").Config()
    weights.save(tmp_path / "codec", config.build().state_dict(), {"name": "identity", "config": config.model_dump()})
    name = encode_latents(away, tmp_path / "codec", InProcess())
    assert encode_latents(here, tmp_path / "codec", InProcess()) == name
    fresh = Tables(tmp_path / "copies", away.place)
    assert [file.read_bytes() for file in fresh.files(name)] == [file.read_bytes() for file in here.files(name)]
    assert fresh.digest(name) == here.digest(name)


def test_addresses_are_told_apart_and_carry_no_secret(tmp_path):
    assert place_of(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert place_of("S3://bucket/raw/") == Place("s3://bucket/raw")
    with pytest.raises(VidgenError, match="does not carry who you are") as caught:
        place_of("s3://key:hunter2@bucket/raw")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(VidgenError, match="no such kind of place"):
        place_of("s4://bucket/raw")
    with pytest.raises(VidgenError, match=r"pip install 'vidgen\[gs\]'"):
        place_of("gs://bucket/raw")


# The last one, because it takes something away from what the others look at.
@pytest.mark.slow
def test_what_is_forgotten_is_in_no_object_of_any_version(both, s3):
    _, tables, uri, _, _ = both
    row = tables.query("select source_id, uri from clips join sources using (source_id) limit 1").to_pylist()[0]
    kept = ("clips", "spans", "sources", OBJECTS)
    held = [file for name in kept for file in tables.holding(name, "source_id", row["source_id"])]
    removed = forget(tables, row["source_id"], row["uri"], [])
    assert removed.files >= len(held) == 4
    listed = filesystem("s3").call_s3("list_object_versions", Bucket="laws")
    left = {one["Key"] for kind in ("Versions", "DeleteMarkers") for one in listed.get(kind, [])}
    assert not left & {f"tables/{file.relative_to(tables.root).as_posix()}" for file in held}
    assert not any(file.exists() for file in held)
    every = SETTINGS.model_copy(update={"select": Select(min_motion=None, need_caption=False)})
    assert prepare(uri, tables, every, InProcess()).reasons["forgotten"] >= 1
    assert row["source_id"] not in tables.read("spans", ["source_id"])["source_id"].to_pylist()


def test_vacuum_removes_objects_and_copies_that_no_kept_release_needs(s3, tmp_path):
    filesystem("s3").mkdirs("vacuum")
    place, releases = Place("s3://vacuum/tables"), []
    tables = Tables(tmp_path / "copies", place)
    for attempts in range(4):
        rows = [{"source_id": "a", "stage": "cut", "attempts": attempts}]
        tables.replace("retries", pa.Table.from_pylist(rows, SCHEMAS["retries"]))
        releases.append(tables.release(["retries"]))
    foreseen = vacuum(tables, releases[1:2], keep_days=0, dry_run=True)
    assert vacuum(tables, releases[1:2], keep_days=0) == foreseen
    assert (foreseen[0].files, foreseen[0].file_bytes > 0) == (2, True)
    fresh = Tables(tmp_path / "others", place)
    states = [releases[number].tables["retries"] for number in (1, 3)]
    for state in states:
        assert row_digests.of_files(fresh.files("retries", state.version)) == state.digest
    assert set(fresh.stored("retries")) == {file for state in states for file in fresh.files("retries", state.version)}
