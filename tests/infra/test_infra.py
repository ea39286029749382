"""The files of infra/: what they name exists, is pinned, is not root, is closed to the world, and holds no secret.

No container is started here. Kustomize is run where kubectl is; schemas are Ray's own for its launcher and Prefect's
models for deployments.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest
import yaml

from flows.home import Home
from tests.flows.test_exporter import home  # noqa: F401 - a fixture
from tests.services import ROOT

INFRA = ROOT / "infra"
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
VERSION = metadata.version("vidgen")


def manifests(folder="base"):
    return [
        one
        for file in sorted((INFRA / "kuberay" / folder).rglob("*.yaml"))
        if file.name != "kustomization.yaml"
        for one in yaml.safe_load_all(file.read_text())
        if isinstance(one, dict) and "kind" in one
    ]


def pods():
    (cluster,) = (one for one in manifests() if one["kind"] == "RayCluster")
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    (patch,) = yaml.safe_load((INFRA / "kuberay" / "overlays" / "gpu" / "group.yaml").read_text())
    return [group["template"]["spec"] for group in (*groups, patch["value"])]


def run_pod():
    """The pod that Prefect's Kubernetes worker starts for a run, with placeholders in it."""
    pool = json.loads((INFRA / "kubernetes_pool.json").read_text())
    return pool["job_configuration"]["job_manifest"]["spec"]["template"]


def test_every_image_has_a_version_and_ours_is_the_one_of_the_package():
    ours = {f"vidgen:{VERSION}", f"vidgen:{VERSION}-cuda"}
    images = [service["image"] for service in COMPOSE["services"].values()]
    images += [container["image"] for pod in pods() for container in pod["containers"]]
    images += re.findall(r"^FROM (\S+:\S+)", (INFRA / "Dockerfile").read_text(), re.MULTILINE)
    assert images
    for image in images:
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", image), image
        assert not image.startswith("vidgen:") or image in ours, image


def test_no_service_is_root_or_open_to_the_network():
    for name, service in COMPOSE["services"].items():
        user, _, _ = service["user"].partition(":")
        assert user.isdigit(), name
        assert int(user) > 0, name
        assert service["cap_drop"] == ["ALL"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    final = (INFRA / "Dockerfile").read_text().split("AS cpu")[1]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    for pod in (*pods(), run_pod()["spec"]):
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }


# What stands after a word such as "token" and is none: names of secrets and of modes.
_NO_SECRETS = {"", "token", "vidgen", "vidgen-ray", "true", "false"}


def test_no_file_holds_a_secret():
    """What is secret comes from variables that must be set, or from secrets of Kubernetes."""
    for file in INFRA.rglob("*"):
        if not file.is_file() or file.name == ".env":
            continue
        for line in file.read_text().splitlines():
            bare = re.sub(r"\$\{[^}]*\}", "", line)
            found = re.search(r"(?i)(?:password|secret|token|auth_string)\w*\"?\s*[:=](.*)", bare)
            if found and not line.lstrip().startswith("#"):
                words = set(re.split(r"[^\w.-]+", found[1])) - {
                    "mode",
                    "secretName",
                    "secretRef",
                    "secretKeyRef",
                    "key",
                    "auth_token",
                    "name",
                    "vidgen-people",
                }
                assert words <= _NO_SECRETS, f"{file.name}: {line}"
    assert "Secret" not in {one["kind"] for one in manifests()}


@pytest.mark.parametrize("name", ["PREFECT_WORD", "MLFLOW_PASSWORD", "RAY_TOKEN", "POSTGRES_PASSWORD", "S3_SECRET"])
def test_without_a_secret_nothing_starts(name):
    text = (INFRA / "compose.yaml").read_text()
    uses = re.findall(rf"\$\{{{name}[^}}]*\}}", text)
    assert uses
    assert all(use.startswith(f"${{{name}:?") for use in uses)
    assert name in (INFRA / "make_env.sh").read_text()


def test_fresh_secrets_are_for_nobody_else_and_differ(tmp_path):
    shutil.copy(INFRA / "make_env.sh", tmp_path)
    subprocess.run([tmp_path / "make_env.sh"], check=True, capture_output=True)
    written = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines())
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    words = [value for value in written.values() if len(value) == 48]
    assert len(set(words)) == len(words) == 8
    assert set(re.findall(r"\$\{(\w+)", (INFRA / "compose.yaml").read_text())) <= set(written)
    assert subprocess.run([tmp_path / "make_env.sh"], capture_output=True, check=False).returncode == 1


def commands():
    """Every command of ours or of Ray's in the files, as words."""
    for service in COMPOSE["services"].values():
        command = service.get("command", [])
        yield shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
        if "healthcheck" in service:
            yield service["healthcheck"]["test"][1:]
    job = yaml.safe_load((INFRA / "kuberay" / "job.yaml").read_text())
    yield shlex.split(job["spec"]["entrypoint"])
    launcher = yaml.safe_load((INFRA / "ray_launcher.yaml").read_text())
    yield from map(shlex.split, launcher["head_start_ray_commands"] + launcher["worker_start_ray_commands"])


def test_every_option_of_a_command_exists():
    import typer

    from flows.cli import app

    ours = typer.main.get_command(app)
    seen = set()
    for program, *words in filter(None, commands()):
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        if program == "vidgen":
            options = {name for parameter in ours.commands[words[0]].params for name in parameter.opts}
        elif program == "ray":
            options = ray_options(words[0]) if used else set()
        else:
            continue
        assert used <= options, (program, words, used - options)
        seen.add((program, words[0]))
    assert seen >= {("vidgen", "serve"), ("vidgen", "prepare"), ("ray", "start")}


@cache
def ray_options(command):
    """From a process of its own: Ray reads how to authenticate when it is imported."""
    asked = [sys.executable, "-m", "ray.scripts.scripts", command, "--help"]
    return set(re.findall(r"--[a-z-]+", subprocess.run(asked, capture_output=True, text=True, check=True).stdout))


def test_everything_that_compose_names_is_there():
    for name, service in COMPOSE["services"].items():
        for other in service.get("depends_on", []):
            assert other in COMPOSE["services"], name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (INFRA / source).is_file(), source
            elif not source.startswith("$"):
                assert source in COMPOSE["volumes"], source
        assert {config["source"] for config in service.get("configs", [])} <= set(COMPOSE["configs"])


def test_prefect_reads_the_deployments_and_they_fit_the_flow(monkeypatch):
    from prefect.cli.deploy._config import _load_deploy_configs_and_actions
    from prefect.cli.deploy._models import PrefectYamlModel
    from prefect.flows import load_flow_from_entrypoint
    from prefect.schedules import Cron
    from rich.console import Console

    file = INFRA / "prefect.yaml"
    PrefectYamlModel.model_validate(yaml.safe_load(file.read_text()))
    found, actions = _load_deploy_configs_and_actions(file, console=Console(quiet=True))
    assert [one["name"] for one in found] == ["process", "kubernetes"]
    assert actions["pull"]
    monkeypatch.chdir(ROOT)
    for one in found:
        flow = load_flow_from_entrypoint(one["entrypoint"])
        flow.validate_parameters(one["parameters"])
        assert set(one["parameters"]) <= set(flow.parameters.properties)
        assert one["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
        for schedule in one["schedules"]:
            assert Cron(schedule["cron"], timezone=schedule["timezone"])


def test_the_pool_of_kubernetes_fits_prefects_templates_and_the_deployment():
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.utilities.templating import find_placeholders

    pool = json.loads((INFRA / "kubernetes_pool.json").read_text())
    WorkPoolCreate(name="vidgen-kubernetes", type="kubernetes", base_job_template=pool)
    known = set(pool["variables"]["properties"])
    assert {one.name for one in find_placeholders(pool["job_configuration"])} == known
    deployments = yaml.safe_load((INFRA / "prefect.yaml").read_text())["deployments"]
    (given,) = (one["work_pool"]["job_variables"] for one in deployments if one["name"] == "kubernetes")
    assert set(pool["variables"]["required"]) <= set(given) <= known


def test_a_run_is_let_in_and_has_the_home_where_the_cluster_has_it():
    """Each label that a policy selects is set somewhere, and volumes, claims and accounts are those of the cluster."""
    set_somewhere = [run_pod()["metadata"]["labels"].items()]
    (cluster,) = (one["spec"] for one in manifests() if one["kind"] == "RayCluster")
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    set_somewhere += [group["template"]["metadata"]["labels"].items() for group in groups]
    (policy,) = (one["spec"] for one in manifests() if one["kind"] == "NetworkPolicy")
    peers = [peer for rule in policy["ingress"] for peer in rule["from"]]
    selected = [one["podSelector"]["matchLabels"] for one in peers if "podSelector" in one]
    assert {"app.kubernetes.io/part-of": "vidgen-run"} in selected
    assert all(any(labels.items() <= there for there in set_somewhere) for labels in selected)

    head = cluster["headGroupSpec"]["template"]["spec"]
    (container,) = run_pod()["spec"]["containers"]
    assert all(mount in head["containers"][0]["volumeMounts"] for mount in container["volumeMounts"])
    assert all(volume in head["volumes"] for volume in run_pod()["spec"]["volumes"])
    assert container["envFrom"] == head["containers"][0]["envFrom"]
    token = container["env"][0]["valueFrom"]["secretKeyRef"]
    assert token["name"] == cluster["authOptions"]["secretName"]


def test_the_launcher_file_fits_rays_schema():
    (folder,) = find_spec("ray").submodule_search_locations
    schema = json.loads((Path(folder) / "autoscaler" / "ray-schema.json").read_text())
    told = yaml.safe_load((INFRA / "ray_launcher.yaml").read_text())
    assert list(jsonschema.Draft7Validator(schema).iter_errors(told)) == []
    # The schema does refuse what Ray does not know.
    assert not jsonschema.Draft7Validator(schema).is_valid({**told, "max_worker": 2})


def test_the_dashboard_asks_for_metrics_that_there_are(home: Home):  # noqa: F811 - the fixture
    from prometheus_client import CollectorRegistry

    from flows.exporter import HomeCollector

    registry = CollectorRegistry()
    registry.register(HomeCollector(home))
    with home.lock("stage"):
        told = {family.name for family in registry.collect()}
    board = json.loads((INFRA / "monitoring" / "grafana" / "vidgen.json").read_text())
    asked = {name for panel in board["panels"] for target in panel["targets"]
             for name in re.findall(r"vidgen_\w+", target["expr"])}  # fmt: skip
    assert asked
    assert asked <= told
    scraped = yaml.safe_load((INFRA / "monitoring" / "prometheus.yml").read_text())["scrape_configs"]
    (target,) = scraped[0]["static_configs"][0]["targets"]
    assert f"--metrics={target.rpartition(':')[2]}" in COMPOSE["services"]["vidgen"]["command"]


def test_the_cluster_has_bounds_a_token_room_in_shared_memory_and_a_closed_network():
    (cluster,) = (one["spec"] for one in manifests() if one["kind"] == "RayCluster")
    assert cluster["rayVersion"] == metadata.version("ray")
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] < 100
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        volumes = {volume["name"]: volume for volume in group["template"]["spec"]["volumes"]}
        shared = volumes["memory"]["emptyDir"]
        assert shared["medium"] == "Memory"
        assert int(group["rayStartParams"]["object-store-memory"]) < int(shared["sizeLimit"].removesuffix("Gi")) * 2**30
        (container,) = group["template"]["spec"]["containers"]
        assert {"/dev/shm", "/tmp/ray"} <= {mount["mountPath"] for mount in container["volumeMounts"]}
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
    (policy,) = (one["spec"] for one in manifests() if one["kind"] == "NetworkPolicy")
    labels = policy["podSelector"]["matchLabels"]
    assert all(labels.items() <= group["template"]["metadata"]["labels"].items() for group in groups)
    assert all(rule.get("from") for rule in policy["ingress"])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which has Kustomize in it, is not installed")
@pytest.mark.parametrize(("overlay", "groups"), [("cpu", ["cpu"]), ("gpu", ["cpu", "gpu"])])
def test_the_overlays_build(overlay, groups):
    built = subprocess.run(
        ["kubectl", "kustomize", INFRA / "kuberay" / "overlays" / overlay], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    made = list(yaml.safe_load_all(built.stdout))
    (cluster,) = (one["spec"] for one in made if one["kind"] == "RayCluster")
    assert [group["groupName"] for group in cluster["workerGroupSpecs"]] == groups
    images = {c["image"] for g in cluster["workerGroupSpecs"] for c in g["template"]["spec"]["containers"]}
    assert images == {f"vidgen:{VERSION}" + ("-cuda" if overlay == "gpu" else "")}
    assert {one["metadata"].get("namespace", "vidgen") for one in made} == {"vidgen"}
