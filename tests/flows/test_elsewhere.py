"""The command line with videos and tables on S3, and a server that dies under it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep.prepare import DATA_TABLES, prepare
from data_prep.samples import make
from data_prep.storage import filesystem
from data_prep.tables import Tables
from flows.home import Home
from flows.recipes.recipe import load
from tests.data_prep.runners import InProcess
from tests.stores import CREDENTIALS
from vidgen_core.errors import VidgenError

ROOT = Path(__file__).parents[2]


def command(*arguments):
    return [sys.executable, "-m", "flows.cli", *map(str, arguments)]


def vidgen(*arguments, code=0):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command(*arguments), capture_output=True, text=True, env=environment, timeout=280)
    assert "Traceback" not in result.stderr, result.stderr
    assert result.returncode == code, result.stderr
    return result.stdout if code == 0 else " ".join(result.stderr.split())


def test_a_home_remembers_where_its_tables_are_and_moves_them_nowhere(s3, tmp_path):
    filesystem("s3").mkdirs("homes", exist_ok=True)
    home = Home.open(tmp_path / "home")
    home.keep_tables_at("s3://homes/tables/")
    assert Home.open(tmp_path / "home").tables().place.uri == "s3://homes/tables"
    home.keep_tables_at("s3://homes/tables")
    with pytest.raises(VidgenError, match="elsewhere already"):
        home.keep_tables_at("s3://homes/others")
    with pytest.raises(VidgenError, match="no such bucket"):
        Home.open(tmp_path / "other").keep_tables_at("s3://no-such-bucket/tables")
    assert Home.open(tmp_path / "other").tables().place is None
    folder = Home.open(tmp_path / "third")
    folder.keep_tables_at(f"file://{tmp_path}/my%20tables")
    assert folder.tables().root == tmp_path / "my tables"


@pytest.mark.slow
def test_the_commands_work_on_s3_and_a_dead_server_costs_no_work(s3_gate, tmp_path):
    make(tmp_path / "videos", count=12, seed=3)
    recipe = load("shapes.tiny")
    expected = prepare(tmp_path / "videos", Tables(tmp_path / "tables"), recipe.data, InProcess()).release.digest
    files = filesystem("s3")
    files.mkdirs("lines")
    files.put(f"{tmp_path}/videos/", "lines/raw/", recursive=True)
    home = tmp_path / "home"
    line = ("prepare", "--recipe", "shapes.tiny", "--videos", "s3://lines/raw", "--home", home)
    line += ("--tables", "s3://lines/tables")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command(*line), env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while not [path for method, path in s3_gate.asked if method == "PUT" and "/lines/tables/sources/part-" in path]:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    s3_gate.shut()
    _, told = process.communicate(timeout=200)
    s3_gate.open()
    assert process.returncode == 2, told
    assert "The store does not answer" in told
    assert "Traceback" not in told
    vidgen(*line)
    tables = Home(home).tables()
    assert tables.release(DATA_TABLES).digest == expected
    at = ("--home", home)
    assert "12 files" in vidgen("plan", "prepare", *line[1:-2])
    assert vidgen("query", "select count(*) as n from clips", *at, "--format", "csv").split() == [
        "n",
        str(len(tables.read("clips"))),
    ]
    clip = tables.read("clips", ["clip_id", "source_id"]).to_pylist()[0]
    assert "verdict  kept" in vidgen("explain", clip["clip_id"], *at)
    vidgen("card", *at, "--out", tmp_path / "card.html")
    assert "Removed" in vidgen("forget", clip["source_id"], *at, "--yes")
    assert clip["source_id"] not in Home(home).tables().read("clips", ["source_id"])["source_id"].to_pylist()
    secret = CREDENTIALS["AWS_SECRET_ACCESS_KEY"].encode()
    assert not [file for file in home.rglob("*") if file.is_file() and secret in file.read_bytes()]
    assert not [name for name in files.find("lines") if secret in files.cat_file(name)]
