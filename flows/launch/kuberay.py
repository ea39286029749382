"""Run a stage as a RayJob of KubeRay's, on a RayCluster that is there: infra/kuberay has one.

Kubernetes is asked to make the job, to say how it is, and to delete it, which stops it; answer, progress and log come
through the home, as with Ray's own job server. A job is named after what it does, so a command that is given again
while the job runs goes on watching it. Field names are those of KubeRay's API ray.io/v1, RayJob.
"""

import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flows.failures import MISTAKE_EXIT
from flows.launch import local
from flows.launch.ray_jobs import SILENCE_S, command, first_line, stopped
from flows.show import Show
from flows.spec import Spec, StageResult
from flows.stage import write_value
from vidgen_core import digests
from vidgen_core.errors import VidgenError

__all__ = ["SCHEME", "manifest", "run"]

SCHEME = "kuberay"
POLL_S = 2.0
GONE_S = 15.0
_ANSWER_S = 30.0
_REFUSED = "ValidationFailed"
_ENDED = ("Complete", "Failed", _REFUSED)
# Ray says so of a job whose command failed, and KubeRay hands it on; that is all that tells the code.
_EXIT_CODE = re.compile(r"failed with exit code (-?\d+)")
_RUN_LABEL = "vidgen/run"
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def run(spec: Spec, show: Show) -> StageResult:
    """Run a stage to its end, or watch the job that does it already. Stopped here, it is deleted there.

    A job that cannot be watched any more goes on, and the same command finds it again.

    Raises:
        VidgenError: Kubernetes does not let us, KubeRay refuses the job, it is gone or stopped, or the stage ended with
            a sentence for the user.
        StageCrashedError: It ended in another way.

    """
    namespace, cluster = _place(spec.jobs)
    jobs = _Jobs(namespace)
    label = f"vidgen-{digests.of_value([spec.run_key, str(spec.home_dir), spec.stage])}"
    there = jobs.labelled(label)
    running = [job["metadata"]["name"] for job in there if not _ended(job)]
    name = running[0] if running else f"{label}-{_next([job['metadata']['name'] for job in there])}"
    if not running:
        local.clear(spec)
        write_value(spec.spec_file, spec)
        jobs.make(manifest(spec, name, label, cluster))
    try:
        while not _ended(job := jobs.job(name)):
            show.progress(local.progress(spec))
            time.sleep(POLL_S)
    except VidgenError:
        raise
    except BaseException:
        jobs.delete(name)
        raise
    return _answer(spec, name, job["status"])


def _answer(spec: Spec, name: str, status: dict[str, Any]) -> StageResult:
    """What a stage came to, by how KubeRay says that its job ended."""
    said = str(status.get("message") or "")
    if status["jobDeploymentStatus"] == _REFUSED:
        move = "Bring KubeRay's operator and vidgen to versions that fit; the same command tries again"
        raise VidgenError(f"KubeRay refuses the job: {first_line(said)}", got=name, move=move)
    if status.get("jobStatus") == "SUCCEEDED":
        return local.answer(spec, 0)
    if status.get("jobStatus") == "STOPPED":
        raise stopped(name)
    code = _EXIT_CODE.search(said)
    guessed = MISTAKE_EXIT if spec.mistake_file.exists() else 1
    return local.answer(spec, int(code[1]) if code else guessed, first_line(said))


def manifest(spec: Spec, name: str, label: str, cluster: str) -> dict[str, Any]:
    """The RayJob of a stage."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": name, "labels": {_RUN_LABEL: label, "vidgen/stage": spec.stage}},
        "spec": {
            "clusterSelector": {"ray.io/cluster": cluster},
            "entrypoint": command(spec),
            "jobId": name,
            "submissionMode": "HTTPMode",
            # Who watches tries again, if anybody.
            "backoffLimit": 0,
        },
    }


def _place(address: str) -> tuple[str, str]:
    parts = urlsplit(address)
    cluster = parts.path.strip("/")
    if not parts.netloc or not cluster or "/" in cluster:
        raise VidgenError(
            "A RayCluster is named by its namespace and name", got=address, allowed=f"{SCHEME}://NAMESPACE/NAME"
        )
    return parts.netloc, cluster


def _ended(job: dict[str, Any]) -> bool:
    return job.get("status", {}).get("jobDeploymentStatus") in _ENDED


def _next(names: list[str]) -> int:
    return 1 + max((int(name.rpartition("-")[2]) for name in names), default=-1)


class _Jobs:
    """RayJobs of a namespace, through Kubernetes' API."""

    def __init__(self, namespace: str) -> None:
        self._server, self._context = _server()
        self._jobs = f"/apis/ray.io/v1/namespaces/{namespace}/rayjobs"

    def labelled(self, label: str) -> list[dict[str, Any]]:
        """All jobs of this kind that Kubernetes still knows."""
        return list(self._patiently("GET", f"{self._jobs}?labelSelector={_RUN_LABEL}%3D{label}")["items"])

    def make(self, job: dict[str, Any]) -> None:
        """Make a job; one that another command has made under this name in the same moment will do."""
        try:
            self._patiently("POST", self._jobs, job)
        except VidgenError as error:
            if not (isinstance(error.__cause__, urllib.error.HTTPError) and error.__cause__.code == 409):
                raise

    def job(self, name: str) -> dict[str, Any]:
        """How it is."""
        return self._patiently("GET", f"{self._jobs}/{name}")

    def delete(self, name: str) -> None:
        """Stop it, and wait until it is gone; it may be that nobody answers."""
        try:
            self._ask("DELETE", f"{self._jobs}/{name}", {"propagationPolicy": "Foreground"})
            deadline = time.monotonic() + GONE_S
            while time.monotonic() < deadline:
                self._ask("GET", f"{self._jobs}/{name}")
                time.sleep(0.2)
        except OSError:
            return

    def _patiently(self, method: str, place: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer; a server that is silent or in trouble is waited for."""
        deadline = time.monotonic() + SILENCE_S
        while True:
            try:
                return self._ask(method, place, body)
            except OSError as error:
                final = isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429
                if final or time.monotonic() > deadline:
                    raise self._refused(error, place) from error
                time.sleep(POLL_S)

    def _ask(self, method: str, place: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        token = _ACCOUNT / "token"
        # It is exchanged for a new one every hour; and a proxy of kubectl's knows us already.
        if self._context is not None and token.exists():
            headers["Authorization"] = f"Bearer {token.read_text().strip()}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._server}{place}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=_ANSWER_S, context=self._context) as answer:
            return dict(json.loads(answer.read() or b"{}"))

    def _refused(self, error: OSError, place: str) -> VidgenError:
        if isinstance(error, urllib.error.HTTPError) and error.code == 404 and not place.endswith("rayjobs"):
            return VidgenError(
                "The job was deleted on the cluster", got=place, move="The same command goes on from here"
            )
        return VidgenError(
            f"Kubernetes does not take our jobs: {error}",
            got=f"{self._server}{place}",
            move="Check --jobs, that KubeRay is installed, and what we may do (infra/kuberay/base/accounts.yaml)",
        )


def _server() -> tuple[str, ssl.SSLContext | None]:
    """Kubernetes' API: that of the pod we are in, or of `kubectl proxy`.

    Raises:
        VidgenError: There is neither.

    """
    if proxy := os.environ.get("VIDGEN_KUBERNETES"):
        return proxy.rstrip("/"), None
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise VidgenError(
            "This is no pod of a Kubernetes cluster, so it is not known where its API is",
            move="Start `kubectl proxy`, and set VIDGEN_KUBERNETES=http://127.0.0.1:8001",
        )
    context = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
    return f"https://{f'[{host}]' if ':' in host else host}:{port}", context
