"""What goes wrong with a store: a sentence and the next move; an object costs itself; a dead server costs no work."""

import os
import random
import threading
from types import SimpleNamespace

import pyarrow as pa
import pytest

from data_prep import fetching, storage
from data_prep.fetching import Scratch, check_videos, find
from data_prep.prepare import prepare
from data_prep.retry import dead_letters
from data_prep.samples import make
from data_prep.settings import DataSettings
from data_prep.sources import Origin
from data_prep.storage import Lost, Place, filesystem
from data_prep.tables import SCHEMAS, Part, Tables
from tests.data_prep.runners import InProcess
from vidgen_core.errors import VidgenError

SETTINGS = DataSettings()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(storage, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(storage, "_DELTA_PATIENCE", {"max_retries": "1", "timeout": "20s"})


@pytest.fixture(scope="module")
def expected(s3_gate, tmp_path_factory):
    """Videos at s3://faults/raw, and the release that a folder of them gives."""
    root = tmp_path_factory.mktemp("faults")
    make(root / "videos", count=2, seed=3)
    files = filesystem("s3")
    files.mkdirs("faults")
    for file in (root / "videos").iterdir():
        files.put_file(str(file), f"faults/raw/{file.name}")
    return prepare(root / "videos", Tables(root / "tables"), SETTINGS, InProcess()).release.digest


@pytest.fixture
def gate(s3_gate):
    yield s3_gate
    s3_gate.rule()
    if not s3_gate.alive:
        s3_gate.open()


def away(root, name):
    return Tables(root / "copies", Place(f"s3://faults/{name}"))


def row(unit):
    return pa.Table.from_pylist([{"source_id": unit, "stage": "cut", "attempts": 1}], SCHEMAS["retries"])


@pytest.mark.parametrize(
    ("rules", "uri", "sentence"),
    [
        ([], "s3://no-such-bucket/raw", "There is no such bucket. .*no-such-bucket"),
        ([{"status": 403, "code": "AccessDenied"}], "s3://faults/raw", "does not let you.*Check your credentials"),
        ([{"status": 403, "code": "InvalidAccessKeyId"}], "s3://faults/raw", "does not let you"),
        ([{"status": 503, "code": "SlowDown"}], "s3://faults/raw", "SlowDown"),
        (None, "s3://faults/raw", "does not answer.*AWS_ENDPOINT_URL.*goes on"),
    ],
)
def test_a_place_that_cannot_be_used_is_a_sentence(gate, expected, tmp_path, rules, uri, sentence):
    if rules is None:
        gate.shut()
    else:
        gate.rule(*rules)
    for ask in (
        lambda: find(uri, Tables(tmp_path), InProcess()),
        lambda: Tables(tmp_path, Place(uri)).exists("spans"),
        lambda: Tables(tmp_path, Place(uri)).write("retries", "a", row("a")),
    ):
        with pytest.raises(VidgenError, match=sentence) as caught:
            ask()
        assert len(str(caught.value)) < 300


def test_nothing_at_an_address_is_a_sentence(gate, expected, tmp_path):
    with pytest.raises(VidgenError, match="nothing at this address"):
        check_videos("s3://faults/rw")
    with pytest.raises(VidgenError, match="nothing at this address"):
        find("s3://faults/rw", Tables(tmp_path), InProcess())


def test_without_credentials_it_says_so_and_names_the_variables(gate, expected, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    filesystem.cache_clear()
    try:
        for ask in (lambda: check_videos("s3://faults/raw"), lambda: away(tmp_path, "none").exists("spans")):
            with pytest.raises(VidgenError, match="there are no credentials.*AWS_PROFILE"):
                ask()
    finally:
        filesystem.cache_clear()


def test_a_profile_and_an_open_bucket_serve_videos_and_tables(gate, expected, tmp_path, monkeypatch):
    """Neither key nor secret is in the environment, and the server's log shows who came."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "credentials").write_text("[mine]\naws_access_key_id = who\naws_secret_access_key = knows\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name, value in (("AWS_PROFILE", "mine"), ("AWS_SKIP_SIGNATURE", "true")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            filesystem.cache_clear()
            check_videos("s3://faults/raw")
            assert not away(tmp_path, "none").exists("spans")
    filesystem.cache_clear()


def test_an_object_that_may_not_be_read_costs_itself_and_comes_with_the_next_run(gate, expected, tmp_path):
    tables = Tables(tmp_path / "tables")
    gate.rule({"method": "GET", "holds": "shapes-00001.mp4", "status": 403, "code": "AccessDenied"})
    done = prepare("s3://faults/raw", tables, SETTINGS, InProcess())
    assert done.reasons["unfetched"] == 1
    assert len(tables.read("sources")) == 1
    (letter,) = dead_letters(tables)
    assert (letter["stage"], letter["uri"]) == ("fetch", "shapes-00001.mp4")
    gate.rule()
    assert prepare("s3://faults/raw", tables, SETTINGS, InProcess()).release.digest == expected


def test_a_fault_that_passes_is_waited_for(gate, expected, tmp_path):
    place, file = Place("s3://faults/raw"), tmp_path / "one.mp4"
    gate.rule({"method": "GET", "holds": "shapes-00000.mp4", "status": 500, "code": "InternalError"})
    threading.Timer(0.05, gate.rule).start()
    storage._FIRST_WAIT_S = 0.2
    place.fetch("shapes-00000.mp4", file)
    assert file.stat().st_size == place.size_bytes("shapes-00000.mp4")


def test_an_object_written_anew_while_it_is_read_is_no_mixture(gate, expected, tmp_path):
    place = Place("s3://faults/raw")
    with pytest.raises(Lost, match="written anew"):
        place.fetch("shapes-00000.mp4", tmp_path / "one.mp4", "another stamp")
    with pytest.raises(Lost):
        place.fetch("gone.mp4", tmp_path / "two.mp4")
    assert not list(tmp_path.iterdir())


def test_scratch_holds_no_more_than_it_may_and_nothing_at_the_end(gate, expected, tmp_path):
    place = Place("s3://faults/raw")
    objects = [one for one in place.objects() if one.path.endswith(".mp4")]
    scratch = Scratch(tmp_path, max(one.size_bytes for one in objects))
    for one in (*objects, *objects):
        with scratch.holding(Origin(place, one)) as file:
            assert file.stat().st_size == one.size_bytes
            assert len(list(tmp_path.glob("*.mp4"))) == 1
    scratch.clear()
    assert not list(tmp_path.glob("*.mp4"))


@pytest.mark.slow
def test_commits_at_the_same_time_are_all_kept(gate, expected, tmp_path):
    def commit(worker):
        for number in range(4):
            tables, unit = Tables(tmp_path / str(worker), Place("s3://faults/together")), f"{worker}-{number}"
            tables.commit("retries", SCHEMAS["retries"], [Part(unit, tables.write("retries", unit, row(unit)), 1)])

    Tables(tmp_path, Place("s3://faults/together")).commit("retries", SCHEMAS["retries"], [])
    threads = [threading.Thread(target=commit, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Tables(tmp_path, Place("s3://faults/together")).read("retries")) == 12


def killed_and_again(gate, root, kills, seed):
    """Digest of a run whose server dies at random requests, given again until it comes to its end."""
    rng, met = random.Random(seed), 0
    for _ in range(kills):
        gate.rule({"die": True, "first": rng.randint(1, 120), "holds": f"/faults/{root.name}"})
        try:
            prepare("s3://faults/raw", away(root, root.name), SETTINGS, InProcess())
        except VidgenError as error:
            assert "does not answer" in str(error), error
            met += 1
        gate.rule()
        if not gate.alive:
            gate.open()
    return prepare("s3://faults/raw", away(root, root.name), SETTINGS, InProcess()).release.digest, met


def test_a_server_that_dies_ends_the_run_and_the_next_run_goes_on(gate, expected, tmp_path):
    digest, met = killed_and_again(gate, tmp_path, kills=1, seed=1)
    assert (digest, met) == (expected, 1)


@pytest.mark.slow
def test_a_server_that_dies_again_and_again_changes_no_bit(gate, expected, tmp_path):
    for seed in range(3):
        (tmp_path / f"again{seed}").mkdir()
        digest, met = killed_and_again(gate, tmp_path / f"again{seed}", kills=3, seed=seed)
        assert digest == expected
        assert met > 0


@pytest.mark.parametrize(("others", "many", "looks"), [(0.1, 300, 0), (0.6, 300, 40), (0.99, 60, 60)])
def test_room_is_kept_and_the_folder_seldom_looked_through(tmp_path, monkeypatch, others, many, looks):
    total, size, looked = 200_000, 50, []
    held = lambda: sum(file.stat().st_size for file in tmp_path.glob("*.mp4"))  # noqa: E731

    def usage(_):
        used = int(total * others) + held()
        return SimpleNamespace(used=used, free=total - used)

    monkeypatch.setattr(fetching.shutil, "disk_usage", usage)
    look = Scratch._media
    monkeypatch.setattr(Scratch, "_media", lambda self: looked.append(1) or look(self))
    (tmp_path / ".locks").mkdir()
    for number in range(many):
        Scratch(tmp_path)._make_room(size)
        file = tmp_path / f"{number:03d}.mp4"
        file.write_bytes(b"x" * size)
        os.utime(file, ns=(number, number))
        assert file.exists()
        assert held() <= (usage(None).free + held()) / 2
    assert len(looked) <= looks
