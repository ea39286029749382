"""The commands over the tables as a user meets them: what they print, their exit codes, no tracebacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from data_prep.latents import embed_captions, encode_latents
from data_prep.lineage import find
from data_prep.prepare import prepare
from data_prep.samples import make
from data_prep.tables import Tables
from flows.cli import app
from flows.commands.forget import forget_source
from flows.commands.lineage import lineage, seen_by
from flows.commands.vacuum import kept_releases, vacuum_tables
from flows.home import Home
from flows.recipes.recipe import load
from flows.spec import Spec, StageResult
from flows.stage import write_value
from tests.data_prep.runners import InProcess
from vidgen_core import weights
from vidgen_core.codecs import causal_vae
from vidgen_core.encoders._open import open_encoder
from vidgen_core.errors import VidgenError
from vidgen_core.training.columns import TensorColumn, stored_in

ROOT = Path(__file__).parents[2]


def vidgen(*arguments, code=0):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, input="n\n")
    assert "Traceback" not in result.stderr, result.stderr
    assert result.returncode == code, result.stderr
    return result.stdout if code == 0 else " ".join(result.stderr.split())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A home as `vidgen prepare` leaves it, without the seconds that its server takes to start."""
    root = tmp_path_factory.mktemp("commands")
    make(root / "videos", count=3, seed=3)
    (root / "videos" / "broken.mp4").write_bytes(b"nothing")
    home, recipe = Home.open(root / "home"), load("shapes.tiny", ["data.select.min_motion=0.8"])
    spec = Spec(stage="prepare", recipe=recipe, videos=root / "videos", home_dir=home.root)
    write_value(spec.spec_file, spec)
    tables = Tables(home.tables_dir)
    prepare(spec.videos, tables, recipe.data, InProcess())
    release = tables.release(["clips"])
    write_value(home.releases_dir / f"{release.digest}.json", release)
    return home, tables, spec


def test_every_command_tells_what_is_there(prepared, tmp_path):
    home, tables, spec = prepared
    at = ("--home", home.root)
    plan = vidgen("plan", "prepare", "--recipe", "shapes.tiny", "--videos", spec.videos, *at, "--json")
    assert [step["name"] for step in json.loads(plan)["steps"]] == ["analyze", "decide", "cut"]
    dropped = tables.query("select clip_id, message from rejects where reason = 'min_motion' limit 1").to_pylist()[0]
    told = vidgen("explain", dropped["clip_id"], *at)
    assert f"dropped by {dropped['message']}" in told
    loose = json.loads(vidgen("explain", dropped["clip_id"], *at, "--set", "data.select.min_motion=0", "--json"))
    assert loose["dropped_by"] is None
    assert loose["reject"]["reason"] == "min_motion"
    assert json.loads(vidgen("query", "select count(*) n from clips", *at, "--format", "json"))[0]["n"] > 0
    ahead = json.loads(vidgen("plan", "train", "--recipe", "shapes.tiny", "--on", "h100", "--json"))
    assert [one["on"][0]["fits"] for one in ahead.values()] == [True, True]
    assert vidgen("query", "select 1 as one, 'a,b' as two", *at, "--format", "csv") == 'one,two\n1,"a,b"\n'
    page = tmp_path / "card.html"
    assert vidgen("card", *at, "--out", page).strip() == str(page)
    assert "min_motion" in page.read_text()
    shots = tmp_path / "shots"
    told = vidgen("shots", "--out", shots, *at, "--workers", 1)
    assert told == f"{len(list(shots.glob('*.mp4')))} shots written, 0 were there: {shots / 'shots.jsonl'}\n"


def test_mistakes_get_a_sentence_and_exit_code_2(prepared, tmp_path):
    home = prepared[0]
    at = ("--home", home.root)
    assert "changes nothing" in vidgen("query", "drop table clips", *at, code=2)
    assert "changes nothing" in vidgen("query", "copy clips to '/tmp/clips.csv'", *at, code=2)
    assert "disabled by configuration" in vidgen("query", "select * from read_text('/etc/hostname')", *at, code=2)
    assert "Tables: captions, clips" in vidgen("query", "select * from clip", *at, code=2)
    assert "Did you mean 'csv'" in vidgen("query", "select 1", *at, "--format", "csvv", code=2)
    assert "Did you mean 'broken.mp4'" in vidgen("explain", "brokn.mp4", *at, code=2)
    assert "not_a_video (1)" in vidgen("retry", *at, "--reason", "crashed", code=2)
    (tmp_path / "card").write_text("")
    assert "an .html or .htm file" in vidgen("card", *at, "--out", tmp_path / "card.pdf", code=2)
    assert "Allowed: ultrafast" in vidgen("shots", "--out", tmp_path, *at, "--preset", "fastest", code=2)
    assert "Not a directory" in vidgen("shots", "--out", tmp_path / "card" / "x", *at, code=2)
    assert "run vidgen prepare there first" in vidgen("retry", "--home", tmp_path / "new", code=2)


def test_forget_asks_first_and_names_the_versions_that_learned_from_it(prepared):
    home, tables, _ = prepared
    from vidgen_core.registry.tracking import client

    (release,) = (file.stem for file in home.releases_dir.glob("*.json"))
    store = client(home.mlflow_uri)
    store.create_registered_model("shapes")
    for tag in (release, "another"):
        store.create_model_version("shapes", "somewhere", tags={"vidgen.release": tag})
    store.set_registered_model_alias("shapes", "champion", "1")
    # Vacuum leaves alone what a registered version learned from, however old.
    assert [one.digest for one in kept_releases(home, 0)] == [release]
    uri = tables.query("select any_value(uri) uri from spans join clips using (clip_id)")["uri"][0].as_py()
    before = json.loads(lineage(home, "shapes@champion", as_json=True))["clips"]
    rows = len(tables.read("clips"))
    assert {clip["clip_id"] for clip in before} == set(tables.read("clips")["clip_id"].to_pylist())
    assert "Nothing was removed" in forget_source(home, uri, sure=lambda what: uri not in what)
    assert len(tables.read("clips")) == rows
    told = vidgen("forget", uri, "--home", home.root, "--yes")
    assert "Learned from it, and is blocked until it is trained again: shapes version 1 @champion" in told
    assert "version 2" not in told
    assert len(tables.read("clips")) < rows
    (seen,) = seen_by(home, find(tables, uri)).versions
    assert (str(seen), seen.blocked) == ("shapes version 1", f"it learned from {uri}, which was taken down")
    assert store.get_registered_model("shapes").aliases == {}
    told = json.loads(lineage(home, "shapes/1", as_json=True))
    assert told["release"]["digest"] == release
    assert {clip["clip_id"] for clip in told["clips"]} < {clip["clip_id"] for clip in before}
    assert told["release"]["files_gone"] == 1
    assert [entry["action"] for entry in told["journal"]] == ["block"]
    assert "blocked" in lineage(home, "shapes/1", as_json=False)


def test_vacuum_removes_what_is_old_and_in_no_kept_release(prepared, tmp_path):
    home, tables = Home.open(tmp_path / "home"), Tables(tmp_path / "home" / "tables")
    releases = []
    for count in range(1, 4):
        tables.replace("captions", prepared[1].read("captions").slice(0, count))
        releases.append(tables.release(["captions"]))
        write_value(home.releases_dir / f"{releases[-1].digest}.json", releases[-1])
    old, young, now = releases
    for digest in (old.digest, now.digest):
        os.utime(home.releases_dir / f"{digest}.json", (0, 0))
    assert [one.digest for one in kept_releases(home, 7)] == [young.digest]
    told = vacuum_tables(home, keep_days=7, dry_run=False, as_json=False)
    assert told == "0 files removed, 0.0 MB freed; 1 releases stay readable."
    freed = json.loads(vacuum_tables(home, keep_days=0, dry_run=True, as_json=True))["freed_bytes"]
    assert freed == sum(tables.size_bytes(file) for file in tables.stored("captions")) - sum(
        tables.listed("captions").values()
    )
    assert "2 files removed" in vidgen("vacuum", "--home", home.root, "--keep-days", 0)
    assert tables.stored("captions") == tables.files("captions")
    with pytest.raises(VidgenError, match="cannot be negative"):
        vacuum_tables(home, keep_days=-1, dry_run=False, as_json=False)


@pytest.mark.slow
def test_a_loss_budget_has_its_own_exit_code_and_a_retry_its_count(tmp_path):
    make(tmp_path / "videos", count=2, seed=3)
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"nothing")
    line = ("prepare", "--recipe", "shapes.tiny", "--videos", tmp_path / "videos", "--home", tmp_path / "home")
    told = vidgen(*line, "--set", "data.loss_budget=0.1", code=3)
    assert "1 of 3 sources were lost to errors" in told
    assert len(Tables(tmp_path / "home" / "tables").read("clips")) > 0
    vidgen("retry", "--home", tmp_path / "home", code=3)
    vidgen(*line)
    assert "broken.mp4: not_a_video after 3 attempts" in vidgen("retry", "--home", tmp_path / "home")


def test_latents_are_verified_and_a_rotten_one_ends_with_1(prepared, tmp_path):
    home, tables, spec = prepared
    codec = causal_vae.Config().build()
    weights.save(tmp_path / "codec", codec.state_dict(), {"name": "causal_vae", "config": {}})
    name = encode_latents(tables, tmp_path / "codec", InProcess())
    recipe = spec.recipe
    embed_captions(tables, open_encoder(recipe.text.name, recipe.text.config()))
    done = spec.model_copy(update={"stage": "latents"})
    write_value(done.spec_file, done)
    facts = {"codec_dir": str(tmp_path / "codec"), "latents": name}
    write_value(done.result_file("latents"), StageResult(stage="latents", facts=facts))
    at = ("latents", "--verify", "--home", home.root, "--share", "1")
    latents, words = json.loads(vidgen(*at, "--json"))
    assert (latents["checked"], latents["mismatches"]) == (latents["of"], [])
    assert words["checked"] > 0
    file = tables.files(name)[0]
    column = TensorColumn([file], "latent", stored_in(file))
    rotten = file.read_bytes().replace(column.gather([0]).tobytes(), bytes(column.stored.width_bytes))
    file.write_bytes(rotten)
    clip_id = pq.read_table(file, partitioning=None)["clip_id"][0].as_py()
    told = vidgen(*at, code=1)
    assert clip_id in told
    assert "give vidgen latents again" in told


def test_release_says_what_goes_together():
    assert "one of them" in vidgen("release", "--rollback", "--copy-to", "x", code=2)
    assert "--model goes with" in vidgen("release", "--model", "shapes", code=2)


def test_options_that_would_mean_nothing_are_refused():
    for line, words in (
        (["latents", "--share", "0.5"], "--share goes with --verify"),
        (["train", "--json"], "--json goes with --prove-resume"),
    ):
        assert words in str(CliRunner().invoke(app, line).exception)


def test_what_is_told_for_programs_is_not_wrapped_and_no_markup():
    told = json.loads(CliRunner().invoke(app, ["recipes", "--json"]).stdout)
    assert told["shapes.tiny"]["name"] == "shapes.tiny"
    assert len(CliRunner().invoke(app, ["families"]).stdout.splitlines()) == 4
