"""Without the token no port of a Ray cluster does anything: each is found, and each is tried."""

import http.client
import subprocess
import sys
import urllib.error
import urllib.request

import grpc
import pytest

from tests.nodes import Nodes
from tests.processes import below, listening

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


@pytest.fixture(scope="module")
def doors(tmp_path_factory):
    """Hosts and ports of a head, a node, an actor that works there, and its driver."""
    with Nodes(tmp_path_factory.mktemp("nodes"), cpus=(1,)) as nodes:
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, nodes.address], env=nodes.environment, stdout=subprocess.PIPE, text=True
        )
        try:
            assert driver.stdout.readline() == "True\n"
            processes = below(nodes.process.pid) | {driver.pid}
            yield {door: pid for pid in processes for door in listening(pid)}
        finally:
            driver.kill()
            driver.wait()


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


def test_every_port_refuses_who_has_no_token(doors):
    kinds = set()
    for host, port in doors:
        codes = {called(host, port, method) for method in METHODS}
        assert "OK" not in codes, (host, port)
        if "UNAUTHENTICATED" in codes:
            kinds.add("gRPC")
            continue
        status, said = asked(f"http://{host}:{port}/", "GET")
        if status == 200:
            # Figures for Prometheus, which is all that it does whatever is asked.
            assert said.startswith("# HELP"), (host, port, said)
            assert asked(f"http://{host}:{port}/get_or_create_runtime_env", "POST")[0] == 405
            kinds.add("metrics")
        else:
            assert status == 401, (host, port, status)
            kinds.add("HTTP")
    assert kinds == {"gRPC", "HTTP", "metrics"}
    assert len(doors) > 10
