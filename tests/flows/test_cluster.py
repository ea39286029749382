"""The same commands on a cluster of several nodes: losing nodes in every stage changes no bit of what comes out."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import pytest

from data_prep.samples import make
from data_prep.tables import Tables
from flows.cluster import check_address, fitting
from flows.recipes.recipe import load
from flows.spec import Spec
from tests.nodes import ROOT, Nodes
from vidgen_core import weights
from vidgen_core.errors import VidgenError
from vidgen_core.training.journal import History
from vidgen_core.training.speed import CLOCKED

VIDEOS = 60
LIMIT_S = 600
FITTED = ("workers", "threads_per_worker", "accumulate")
# Checkpoints every few steps, and enough steps to be caught between two.
SLOWLY = ["codec_training.steps=60", "training.steps=90", "codec_training.checkpoint_every=5",
          "training.checkpoint_every=5"]  # fmt: skip


def command(stage, videos, home, *more):
    changes = [word for change in SLOWLY for word in ("--set", change)]
    return ["-m", "flows.cli", stage, "--recipe", "shapes.tiny", "--videos", videos, "--home", home, *changes, *more]


def committed(home):
    return len(Tables(home / "tables").committed("sources"))


def checkpoints(home, stage):
    return list(home.glob(f"{stage}/*/checkpoints/step-*/manifest.json"))


def final(home, stage):
    """The trained weights' digest, and at which step the last group took over."""
    (folder,) = home.glob(f"{stage}/*/final")
    return weights.digest(folder), weights.read_card(folder)["fitted"]["resumed_from"]


def rows(home):
    (folder,) = home.glob("training/*/history.jsonl")
    told = History.read(folder)
    return [{name: value for name, value in row.items() if not name.startswith(CLOCKED)} for row in told]


class Running:
    """A command that works on the cluster meanwhile."""

    def __init__(self, nodes, *line):
        self.process = subprocess.Popen(
            [sys.executable, *map(str, line)], env=nodes.environment, cwd=nodes.folder, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def until(self, condition):
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def end(self):
        _, told = self.process.communicate(timeout=LIMIT_S)
        assert self.process.returncode == 0, told


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    make(folder, count=VIDEOS, seed=1)
    return folder


@pytest.fixture(scope="module")
def undisturbed(videos, tmp_path_factory):
    """A home where one machine did all of it in peace."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for stage in ("prepare", "latents", "train"):
        ran = subprocess.run(
            [sys.executable, *map(str, command(stage, videos, folder / "home"))],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=LIMIT_S,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
    return folder / "home"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with Nodes(tmp_path_factory.mktemp("nodes")) as started:
        yield started


@pytest.mark.slow
def test_nodes_that_are_lost_in_every_stage_change_nothing(videos, undisturbed, nodes, tmp_path):
    whole = undisturbed
    home, there = tmp_path / "home", ("--ray", nodes.address)
    preparing = Running(nodes, *command("prepare", videos, home, *there))
    preparing.until(lambda: committed(home))
    nodes.remove(nodes.names.pop())
    assert committed(home) < committed(whole)
    preparing.end()

    coding = Running(nodes, *command("latents", videos, home, *there))
    coding.until(lambda: checkpoints(home, "codecs"))
    nodes.remove(nodes.names.pop())
    # One is left for two workers, and a new one comes while they are waited for.
    nodes.names.append(nodes.add())
    coding.end()
    assert {file.name for file in (home / "releases").iterdir()} == {
        file.name for file in (whole / "releases").iterdir()
    }
    assert final(home, "codecs")[0] == final(whole, "codecs")[0]
    assert final(home, "codecs")[1] > 0

    training = Running(nodes, *command("train", videos, home, *there))
    training.until(lambda: checkpoints(home, "training"))
    # Nobody comes: the two workers' work is done by one.
    nodes.remove(nodes.names.pop())
    training.end()
    assert final(home, "training")[0] == final(whole, "training")[0]
    assert final(home, "training")[1] > 0
    assert rows(home) == rows(whole)
    assert not (home / "nodes").exists()


@contextmanager
def blind_node(nodes, folder):
    """A node that sees nothing in a folder, as if nothing were mounted there."""
    start = f"mount -t tmpfs none '{folder}' && exec {sys.executable} -m ray.scripts.scripts start"
    line = ["unshare", "--mount", "sh", "-c", f"{start} --address {nodes.address} --num-cpus 1 --block"]
    before = nodes.count()
    process = subprocess.Popen(line, env=nodes.environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        while nodes.count() == before:
            if process.poll() is not None:
                pytest.skip("this user may not make a mount of its own")
            time.sleep(0.2)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.mark.slow
def test_a_node_that_does_not_see_the_home_is_found_before_any_work(videos, nodes, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    with blind_node(nodes, home):
        ran = nodes.run(*command("prepare", videos, home, "--ray", nodes.address))
    assert ran.returncode == 2
    assert "does not see what the run works on" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (home / "tables").exists()


@pytest.mark.slow
def test_a_node_with_other_code_is_found_before_any_work(videos, nodes, tmp_path):
    other = tmp_path / "other"
    for package in ("flows", "data_prep", "vidgen_core"):
        shutil.copytree(ROOT / package, other / package, ignore=shutil.ignore_patterns("__pycache__"))
    (other / "data_prep" / "shots.py").open("a").write("# changed\n")
    name = nodes.add(1, PYTHONPATH=str(other))
    ran = nodes.run(*command("prepare", videos, tmp_path / "home", "--ray", nodes.address))
    assert ran.returncode == 2
    assert "does not run what this machine runs" in ran.stderr
    assert "Traceback" not in ran.stderr
    nodes.remove(name)


@pytest.mark.slow
def test_a_cluster_that_does_not_let_us_in_or_is_not_there_is_a_sentence(videos, nodes, tmp_path):
    token = tmp_path / "token"
    token.write_text("0" * 64)
    line = command("prepare", videos, tmp_path / "home", "--ray")
    nodes.environment, right = {**nodes.environment, "RAY_AUTH_TOKEN_PATH": str(token)}, nodes.environment
    wrong = nodes.run(*line, nodes.address)
    nodes.environment = right
    nobody = nodes.run(*line, "127.0.0.1:9")
    for ran in (wrong, nobody):
        assert ran.returncode == 2
        assert "cannot be joined" in ran.stderr
        assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("address", ["auto", "local", "ray://head:10001", "head", ":6379"])
def test_only_a_host_and_a_port_name_a_cluster(address, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(VidgenError, match="HOST:PORT"):
        check_address(address)


def test_how_to_prove_who_we_are_has_to_be_said(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(VidgenError, match="RAY_AUTH_MODE=token"):
        check_address("head:6379")


@pytest.mark.parametrize(
    "cores,asked,made",
    [
        (4, (2, 2, 1), (2, 2, 1)),  # workers, threads of each, pieces that each takes
        (2, (2, 2, 1), (2, 1, 1)),
        (1, (2, 2, 1), (1, 1, 2)),
        (3, (4, 1, 2), (2, 1, 4)),
        (64, (2, 2, 4), (2, 2, 4)),
    ],
)
def test_training_fits_the_cores_of_this_machine_and_learns_the_same(tmp_path, cores, asked, made):
    changes = [f"training.{name}={value}" for name, value in zip(FITTED, asked, strict=True)]
    spec = Spec(
        stage="train", recipe=load("shapes.tiny", [*changes, f"cores={cores}"]), videos="v", home_dir=tmp_path, ray=""
    )
    settings = fitting(spec.recipe.training, spec)
    assert tuple(getattr(settings, name) for name in FITTED) == made
    assert settings.identity() == spec.recipe.training.identity()
    there = spec.model_copy(update={"ray": "127.0.0.1:6379"})
    assert fitting(spec.recipe.training, there) == spec.recipe.training
