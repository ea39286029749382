"""Stages as RayJobs, with a Kubernetes API of our own on loopback that knows only what RayJobs need."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from flows.failures import Mistake, StageCrashedError
from flows.launch import kuberay
from flows.recipes.recipe import load
from flows.spec import Progress, Spec, StageResult
from flows.stage import write_value
from tests.services import ROOT
from vidgen_core.errors import VidgenError

DONE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
FAILED = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED"}


class Kubernetes:
    """RayJobs by name; `operator` is asked with every look at one how it is, and the list `codes` for refusals."""

    def __init__(self):
        self.jobs, self.asked, self.codes, self.operator = {}, [], [], lambda looks: {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, method, path, body):
        self.asked.append((method, path))
        if self.codes:
            return self.codes.pop(0), {}
        parts = urlsplit(path)
        name = parts.path.removeprefix("/apis/ray.io/v1/namespaces/team/rayjobs").strip("/")
        if method == "POST":
            fresh = body["metadata"]["name"] not in self.jobs
            self.jobs.setdefault(body["metadata"]["name"], body)
            return (201 if fresh else 409), body
        if not name:
            key, _, value = parse_qs(parts.query)["labelSelector"][0].partition("=")
            return 200, {"items": [job for job in self.jobs.values() if job["metadata"]["labels"].get(key) == value]}
        if name not in self.jobs:
            return 404, {}
        if method == "DELETE":
            return 200, self.jobs.pop(name)
        looks = sum(method == "GET" and path.endswith(name) for method, path in self.asked)
        self.jobs[name]["status"] = self.operator(looks)
        return 200, self.jobs[name]

    def _handler(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _take(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                code, told = outer.answer(self.command, self.path, json.loads(body or b"null"))
                data = json.dumps(told).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = _take  # noqa: N815 - names of the base class

            def log_message(self, *_):
                """Quiet."""

        return Handler


class Shown:
    def __init__(self):
        self.told = []

    def progress(self, value):
        self.told.append(value)


@pytest.fixture
def kubernetes(monkeypatch):
    there = Kubernetes()
    monkeypatch.setenv("VIDGEN_KUBERNETES", there.url)
    monkeypatch.setattr(kuberay, "POLL_S", 0.01)
    yield there
    there.server.shutdown()


@pytest.fixture
def spec(tmp_path):
    return Spec(stage="prepare", recipe=load("shapes.tiny"), videos="/v", home_dir=tmp_path, jobs="kuberay://team/big")


def posts(kubernetes):
    return [path for method, path in kubernetes.asked if method == "POST"]


def test_a_stage_is_one_job_on_the_cluster_and_its_answer_comes_through_the_home(kubernetes, spec):
    def operator(looks):
        write_value(spec.progress_file, Progress(stage="prepare", done=looks))
        if looks < 3:
            return {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
        write_value(spec.result_file("prepare"), StageResult(stage="prepare", facts={"a": 1}))
        return DONE

    kubernetes.operator = operator
    shown = Shown()
    assert kuberay.run(spec, shown).facts == {"a": 1}
    assert [one.done for one in shown.told] == [1, 2]
    (job,) = kubernetes.jobs.values()
    assert job["kind"] == "RayJob"
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": "big"}
    assert str(spec.spec_file) in job["spec"]["entrypoint"]
    assert job["spec"]["backoffLimit"] == 0
    # Given again when all is over, it is another job.
    assert kuberay.run(spec, shown).facts == {"a": 1}
    assert [name.rpartition("-")[2] for name in kubernetes.jobs] == ["0", "1"]


def test_the_job_is_written_as_the_example_is(spec):
    example = yaml.safe_load((ROOT / "infra" / "kuberay" / "job.yaml").read_text())
    made = kuberay.manifest(spec, "n", "l", "vidgen")
    assert made["apiVersion"] == example["apiVersion"]
    assert made["spec"]["clusterSelector"] == example["spec"]["clusterSelector"]
    assert set(made["spec"]) - set(example["spec"]) == {"jobId"}


def test_a_command_that_is_given_again_watches_the_job_that_runs(kubernetes, spec):
    def look(looks):
        write_value(spec.result_file("prepare"), StageResult(stage="prepare"))
        return DONE if looks > 2 else {"jobDeploymentStatus": "Running"}

    label = f"vidgen-{kuberay.digests.of_value([spec.run_key, str(spec.home_dir), spec.stage])}"
    kubernetes.jobs[f"{label}-0"] = kuberay.manifest(spec, f"{label}-0", label, "big")
    kubernetes.operator = look
    assert kuberay.run(spec, Shown()).stage == "prepare"
    assert posts(kubernetes) == []


def test_stopped_here_it_is_deleted_there(kubernetes, spec):
    class Stopping(Shown):
        def progress(self, value):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kuberay.run(spec, Stopping())
    assert kubernetes.jobs == {}


def test_a_server_in_trouble_is_waited_for_and_one_that_refuses_is_not(kubernetes, spec):
    kubernetes.codes = [503, 500, 429, 403]
    with pytest.raises(VidgenError, match="does not take our jobs.*403"):
        kuberay.run(spec, Shown())
    assert len(kubernetes.asked) == 4


def test_how_a_stage_ended_is_told(kubernetes, spec):
    def mistaken(_looks):
        write_value(spec.mistake_file, Mistake.of(VidgenError("The videos will not do")))
        return FAILED

    kubernetes.operator = mistaken
    with pytest.raises(VidgenError, match="will not do"):
        kuberay.run(spec, Shown())
    kubernetes.operator = lambda _looks: spec.log_file.write_text("out of luck\n") and FAILED
    with pytest.raises(StageCrashedError, match="out of luck"):
        kuberay.run(spec, Shown())

    kubernetes.operator = lambda _looks: {**FAILED, "jobStatus": "STOPPED"}
    with pytest.raises(VidgenError, match="was stopped on the cluster"):
        kuberay.run(spec, Shown())

    kubernetes.operator = lambda looks: {"jobDeploymentStatus": "Running"}
    shown = Shown()
    shown.progress = lambda _value: kubernetes.jobs.clear()
    with pytest.raises(VidgenError, match="was deleted on the cluster"):
        kuberay.run(spec, shown)


@pytest.mark.parametrize(("code", "died"), [(1, False), (137, True), (-9, True)])
def test_the_exit_code_comes_through_and_an_earlier_attempt_is_not_quoted(kubernetes, spec, code, died):
    spec.run_dir.mkdir(parents=True)
    spec.log_file.write_text("words of yesterday\n")
    os.utime(spec.log_file, (0, 0))
    message = f"Job entrypoint command failed with exit code {code}, last available logs:\nfailed with exit code 28"
    kubernetes.operator = lambda _looks: {**FAILED, "message": message}
    with pytest.raises(StageCrashedError, match="Job entrypoint command failed") as crashed:
        kuberay.run(spec, Shown())
    assert crashed.value.died == died
    assert "yesterday" not in str(crashed.value)
    # Where the job never began there is no log at all.
    spec.log_file.unlink()
    kubernetes.operator = lambda _looks: FAILED
    with pytest.raises(StageCrashedError, match="it printed nothing"):
        kuberay.run(spec, Shown())


def test_a_full_disk_on_the_cluster_is_told_as_one(kubernetes, spec):
    kubernetes.operator = lambda _looks: {**FAILED, "message": "Job entrypoint command failed with exit code 28."}
    with pytest.raises(VidgenError, match="disk is full"):
        kuberay.run(spec, Shown())


def test_a_job_that_kuberay_refuses_is_not_waited_for(kubernetes, spec):
    # The operator's rule, which no schema has: who keeps the cluster after the job may not bound the job's own life.
    made = kuberay.manifest(spec, "n", "l", "big")["spec"]
    assert made.get("shutdownAfterJobFinishes") or "ttlSecondsAfterFinished" not in made
    refused = {"jobDeploymentStatus": "ValidationFailed", "message": "The RayJob spec is invalid"}
    kubernetes.operator = lambda _looks: refused
    with pytest.raises(VidgenError, match="KubeRay refuses the job: The RayJob spec is invalid"):
        kuberay.run(spec, Shown())


def test_a_job_that_cannot_be_watched_any_more_goes_on(kubernetes, spec):
    kubernetes.operator = lambda _looks: {"jobDeploymentStatus": "Running"}
    shown = Shown()
    shown.progress = lambda _value: kubernetes.codes.append(403)
    with pytest.raises(VidgenError, match="403"):
        kuberay.run(spec, shown)
    assert len(kubernetes.jobs) == 1
    assert not [path for method, path in kubernetes.asked if method == "DELETE"]


def test_a_place_that_is_none_is_told(spec, monkeypatch):
    with pytest.raises(VidgenError, match="kuberay://NAMESPACE/NAME"):
        kuberay.run(spec.model_copy(update={"jobs": "kuberay://team"}), Shown())
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(VidgenError, match="kubectl proxy"):
        kuberay.run(spec, Shown())
