"""The whole line on real services, and what it costs to kill each of them. `make test-services` runs this.

PostgreSQL has Prefect's and MLflow's databases, MLflow puts artifacts on an S3 server, a process worker starts the
deployment of infra/prefect.yaml, and the stages work on a Ray cluster of three nodes. With VIDGEN_GOLDEN=1 the table of
faults is written into docs/operations.md.
"""

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep.samples import make
from flows.home import Home
from tests.nodes import Nodes
from tests.processes import launchers, named
from tests.services import NO_POSTGRES, ROOT, Services, answers, postgres_folder, wait

pytestmark = [
    pytest.mark.slow,
    pytest.mark.services,
    pytest.mark.skipif(postgres_folder() is None, reason=NO_POSTGRES),
]
DOCUMENT = ROOT / "docs" / "operations.md"
BEGIN, END = "<!-- faults: written by tests/flows/test_services.py -->\n", "<!-- end of faults -->\n"
ROWS: list[str] = []


class World:
    """The services, a cluster, the videos, and what an undisturbed run makes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.videos = folder, folder / "videos"
        make(self.videos, count=8, seed=1)
        # One token for every cluster that there will be, and one that the worker knows.
        self.token = folder / "token"
        self.token.write_text(secrets.token_hex(32))
        self.token.chmod(0o600)
        self.services = Services(folder, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(self.token))
        self.services.work()
        self.clusters = 0
        self.new_cluster()
        self.undisturbed = self._embedded()

    def new_cluster(self) -> None:
        """Three nodes, which may log to MLflow as the worker may."""
        self.clusters += 1
        place = self.folder / f"nodes-{self.clusters}"
        place.mkdir()
        people = {name: value for name, value in self.services.environment.items() if name.startswith("MLFLOW_")}
        self.nodes = Nodes(place, **people, RAY_AUTH_TOKEN_PATH=str(self.token)).__enter__()

    def lose_cluster(self) -> None:
        """Sweep up what its head has left."""
        for pid in named(self.nodes.temporary):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.nodes.__exit__()

    def _embedded(self) -> tuple[str, str]:
        home = self.folder / "embedded"
        alone = {
            name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PREFECT", "MLFLOW"))
        }
        options = ["--recipe", "shapes.tiny", "--videos", self.videos, "--home", home]
        command = [sys.executable, "-m", "flows.cli", "run", *map(str, options)]
        for _ in range(2):  # Once in a while Ray's own code aborts; the same command goes on.
            environment = {**alone, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
            if done.returncode == 0:
                break
        assert done.returncode == 0, done.stderr
        return made(Home(home))

    def begin(self, home: Home) -> str:
        return self.services.begin(
            recipe="shapes.tiny", videos=self.videos, home=home.root, ray=self.nodes.address, changes=[]
        )

    def complete(self, home: Home) -> str:
        """A run to its end; its id."""
        run = self.begin(home)
        assert self.services.ended(run) == "COMPLETED", self.services.logs(run)
        return run

    def hear(self, run: str, said: str) -> None:
        """Wait for what a run says, which comes some seconds after its end."""
        wait(lambda: said in self.services.logs(run), limit_s=30)

    def stop(self) -> None:
        self.services.stop()
        self.nodes.__exit__()


def made(home: Home) -> tuple[str, str]:
    """Digests of the data release and of the generator's weights."""
    (latents,), (train,) = (list(home.runs_dir.glob(f"*/{stage}.json")) for stage in ("latents", "train"))
    return json.loads(latents.read_text())["facts"]["release"], json.loads(train.read_text())["facts"]["model"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    there = World(tmp_path_factory.mktemp("world"))
    yield there
    there.stop()


def test_a_run_on_the_services_makes_what_an_embedded_one_makes(world):
    home = Home(world.folder / "home")
    began = time.monotonic()
    run = world.complete(home)
    took_s = time.monotonic() - began
    world.hear(run, "shapes version 1")
    assert made(home) == world.undisturbed
    assert not (home.root / "mlflow.db").exists()
    assert home.mlflow_uri == world.services.registry
    question = "select version from model_versions where name = 'shapes'"
    assert world.services.postgres.tool("psql", "mlflow", "-tAc", question).stdout.split() == ["1"]
    stored = [path for method, path in world.services.s3.asked if method == "PUT" and path.startswith("/mlflow/")]
    assert any("generator" in path and path.endswith(".safetensors") for path in stored)
    (left,) = world.services.ask("artifacts/filter", artifacts={"key": {"any_": ["shapes-release-page"]}})
    links = dict(re.findall(r"\[(\w+) in MLflow\]\((.*?)\)", left["data"]))
    assert links["version"] == f"{world.services.registry}/#/models/shapes/versions/1"
    question = "select experiment_id || '/runs/' || run_uuid from runs"
    (of_run,) = world.services.postgres.tool("psql", "mlflow", "-tAc", question).stdout.split()
    assert links["run"] == f"{world.services.registry}/#/experiments/{of_run}"
    assert links["page"] == f"{links['run']}/artifactPath/report/shapes-1.html"
    assert any(f"{of_run.split('/')[-1]}/artifacts/report/shapes-1.html" in path for path in stored)
    sys.stdout.write(f"\na whole run of shapes.tiny on the services: {took_s:.0f} s\n")
    began = time.monotonic()
    run = world.complete(home)
    sys.stdout.write(f"one with nothing new: {time.monotonic() - began:.0f} s\n")
    world.hear(run, "Nothing new")


def test_a_model_that_a_server_keeps_is_sampled_from(world):
    out, home = world.folder / "x.mp4", world.folder / "home"
    options = ["--model", "shapes@challenger", "--prompt", "a red circle", "--home", home, "--out", out]
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "sample", *map(str, options)], env=world.services.environment,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size


def flow(world, home):
    (engine,) = wait(lambda: launchers(home.root))
    os.kill(engine, signal.SIGKILL)


def worker(world, home):
    world.services.worker.kill()


def head(world, home):
    (pid,) = named("gcs_server", world.nodes.temporary)
    os.kill(pid, signal.SIGKILL)


def node(world, home):
    world.nodes.remove(world.nodes.names[-1])


def postgres(world, home):
    world.services.postgres.kill_all()
    time.sleep(5)
    world.services.postgres.start()


def nothing(world):
    """It is back already, or needs not be."""


FAULTS = [
    ("the flow's process", "latents", flow, nothing),
    ("the Prefect worker", "prepare", worker, lambda world: world.services.worker.start()),
    ("PostgreSQL, back after 5 s", "latents", postgres, nothing),
    ("a Ray node", "latents", node, lambda world: world.nodes.names.append(world.nodes.add())),
    ("the Ray head", "latents", head, lambda world: (world.lose_cluster(), world.new_cluster())),
]


@pytest.mark.parametrize(("what", "stage", "kill", "revive"), FAULTS, ids=[fault[2].__name__ for fault in FAULTS])
def test_after_a_kill_the_next_run_makes_what_an_undisturbed_one_makes(world, what, stage, kill, revive):
    home = Home(world.folder / kill.__name__)
    run = world.begin(home)

    def works():
        assert world.services.state(run) in ("SCHEDULED", "PENDING", "RUNNING"), world.services.logs(run)
        return any(any(home.runs_dir.glob(f"*/{stage}.{kind}.json")) for kind in ("progress", "follow"))

    wait(works)
    kill(world, home)
    # A worker that is gone tells nothing; its run may work on alone.
    end = world.services.ended(run)
    revive(world)
    wait(lambda: not named("flows.stage", str(home.root)), limit_s=60)
    world.complete(home)
    release, weights = (mine == theirs for mine, theirs in zip(made(home), world.undisturbed, strict=True))
    assert release
    assert weights
    ROWS.append(f"| {what}, during `{stage}` | {end} | COMPLETED | the same | the same |\n")


def test_the_databases_come_back_from_their_dumps(world):
    server, dump = world.services.postgres, world.folder / "mlflow.dump"
    count = ("-tAc", "select count(*) from runs")
    before = server.tool("psql", "mlflow", *count).stdout
    server.tool("pg_dump", "--format=custom", f"--file={dump}", "mlflow")
    server.tool("createdb", "restored")
    server.tool("pg_restore", "--exit-on-error", "--dbname=restored", dump)
    assert int(before) > 0
    assert server.tool("psql", "restored", *count).stdout == before


def test_without_a_password_no_service_answers(world):
    services = world.services
    assert answers(f"{services.api}/flow_runs/count") in (401, 405)
    assert answers(f"{services.api}/admin/version") == 401
    assert answers(f"{services.registry}/api/2.0/mlflow/experiments/search?max_results=1") == 401
    # A stranger's own database: no password, no connection.
    assert services.postgres.tool("psql", "mlflow", "-c", "select 1").returncode == 0
    services.postgres.password, known = "wrong", services.postgres.password
    try:
        assert "password authentication failed" in services.postgres.tool("psql", "mlflow", check=False).stderr
    finally:
        services.postgres.password = known


def test_the_table_of_faults_is_what_happened(world):
    if len(ROWS) < len(FAULTS):
        pytest.skip("not all faults were tried")
    table = "| killed | that run | the next run | its release | its weights |\n|---|---|---|---|---|\n" + "".join(ROWS)
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    if os.environ.get("VIDGEN_GOLDEN"):
        DOCUMENT.write_text(before + BEGIN + table + END + after)
    assert table in DOCUMENT.read_text()
