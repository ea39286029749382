"""Without token or password no port of ours does anything: each is found, and each is tried."""

import http.client
import os
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from tests.nodes import Nodes
from tests.processes import below, listening
from tests.stores import free_port

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.services]
# What runs code or tells how to, of every kind of process that there is.
METHODS = [
    f"/ray.rpc.{method}"
    for method in (
        "JobInfoGcsService/AddJob", "ActorInfoGcsService/RegisterActor", "InternalKVGcsService/InternalKVPut",
        "NodeManagerService/RequestWorkerLease", "CoreWorkerService/PushTask", "ObjectManagerService/Push",
        "ReporterService/GetTraceback", "LogService/StreamLog",
    )
]  # fmt: skip
# What an HTTP server of Ray does when it is asked: run jobs, install, kill, tell.
CALLS = [("api/jobs/", "POST"), ("api/jobs/", "GET"), ("api/job_agent/jobs/", "POST"), ("nodes?view=summary", "GET"),
         ("get_or_create_runtime_env", "POST"), ("api/actors/kill", "GET"), ("api/version", "GET")]  # fmt: skip
DRIVER = """
import sys, time, ray
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)

@ray.remote
class Held:
    def works(self):
        return True

held = Held.remote()
print(ray.get(held.works.remote()), flush=True)
time.sleep(300)
"""


# The Ray that a stage starts for itself.
ALONE = """
import sys, time
from pathlib import Path
from flows.cluster import ray_of
from flows.recipes.recipe import load
from flows.spec import Spec

with ray_of(Spec(stage="prepare", recipe=load("shapes.tiny", []), videos="v", home_dir=Path(sys.argv[1]))):
    import ray
    print(ray.get(ray.remote(lambda: True).remote()), flush=True)
    time.sleep(300)
"""
# The Prefect of a command, and that of `vidgen serve`, which stays at a port.
SERVER = """
import os, sys
from pathlib import Path
from flows.embedded import prefect_server
from flows.home import Home

with prefect_server(Home.open(Path(sys.argv[1])), port=int(sys.argv[2]) or None):
    from prefect.client.orchestration import get_client
    with get_client(sync_client=True) as client:
        client.read_flows()
    print(os.environ["PREFECT_API_URL"], flush=True)
    sys.stdin.read()
"""


@contextmanager
def begun(script, *arguments, environment=os.environ):
    """A process, and the first line that it says."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], env={**environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        said = process.stdout.readline().strip()
        assert said
        yield process, said
    finally:
        process.stdin.close()
        process.kill()
        process.wait()


@pytest.fixture(scope="module", params=["cluster", "private"])
def doors(request, tmp_path_factory):
    """Hosts and ports of a head with its job server, a node, an actor there, and its driver; or those of a stage."""
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as held:
        if request.param == "cluster":
            nodes = held.enter_context(Nodes(folder, cpus=(1,), dashboard=True))
            driver, _ = held.enter_context(begun(DRIVER, nodes.address, environment=nodes.environment))
            roots = (nodes.process.pid, driver.pid)
        else:
            stage, _ = held.enter_context(begun(ALONE, folder / "home"))
            roots = (stage.pid,)
        yield {door: pid for pid in below(*roots) for door in listening(pid)}


def called(host, port, method):
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            channel.unary_unary(method)(b"", timeout=5)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name


def asked(url, method):
    try:
        request = urllib.request.Request(url, method=method, data=b"" if method == "POST" else None)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read(200).decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except (OSError, http.client.HTTPException) as error:  # It speaks another protocol.
        return type(error).__name__, ""


def test_every_port_of_ray_refuses_who_has_no_token(doors, request):
    kinds = set()
    for host, port in doors:
        codes = {called(host, port, method) for method in METHODS}
        assert "OK" not in codes, (host, port)
        if "UNAUTHENTICATED" in codes:
            kinds.add("gRPC")
            continue
        status, said = asked(f"http://{host}:{port}/", "GET")
        if status == 200 and said.startswith("# HELP"):
            # Figures for Prometheus, which is all that it does whatever is asked.
            assert asked(f"http://{host}:{port}/get_or_create_runtime_env", "POST")[0] == 405
            kinds.add("metrics")
            continue
        # A dashboard shows its empty page to everybody, and nothing else.
        assert status == 401 or "<html" in said, (host, port, status)
        tried = [asked(f"http://{host}:{port}/{what}", method)[0] for what, method in CALLS]
        assert set(tried) <= {401, 404, 405}, (host, port, tried)
        assert 401 in tried, (host, port, tried)
        kinds.add("HTTP")
    assert kinds == {"gRPC", "HTTP", "metrics"}
    assert len(doors) > (10 if request.node.callspec.params["doors"] == "cluster" else 4)


@pytest.mark.parametrize("stays", [False, True])
def test_a_prefect_server_of_ours_refuses_who_has_no_password(stays, tmp_path):
    with begun(SERVER, tmp_path, free_port() if stays else 0) as (process, api):
        doors = {door for pid in below(process.pid) for door in listening(pid)}
        assert [port for _, port in doors] == [int(api.split(":")[2].split("/")[0])]
        for method, what in (("POST", "flow_runs/filter"), ("POST", "deployments/"), ("GET", "admin/version")):
            assert asked(f"{api}/{what}", method)[0] == 401
        assert asked(f"{api}/health", "GET")[0] == 200
    word = tmp_path / "prefect" / "auth"
    assert word.exists() == stays
    assert not stays or word.stat().st_mode & 0o077 == 0
