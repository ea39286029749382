"""Services that are named here or in the environment: Prefect's, MLflow's, a Ray cluster, its jobs; and secrets."""

import base64
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from flows.checks._finding import Finding, State, Subject

__all__ = ["check"]

_TIMEOUT_S = 5.0
_SKEW_S = 5.0


def check(subject: Subject) -> Iterator[Finding]:
    """Whether each service that is named answers, is the right version, and has a clock that agrees with ours."""
    api = subject.environment.get("PREFECT_API_URL", "")
    if api:
        yield from _prefect(api, subject.environment.get("PREFECT_API_AUTH_STRING", ""))
    else:
        found = "PREFECT_API_URL is not set; a run brings a server of its own"
        yield Finding(what="prefect", state=State.ABSENT, found=found)
    if registry := subject.environment.get("MLFLOW_TRACKING_URI", ""):
        yield _mlflow(registry)
    if subject.ray or subject.jobs.startswith("http"):
        yield _ray_secret(subject)
    if subject.ray:
        host, _, port = subject.ray.rpartition(":")
        yield _reached("ray", host, port, "Check --ray, and that `ray start --head` runs there")
    # A RayCluster's namespace is no host that could be reached from here.
    if subject.jobs and not subject.jobs.startswith("kuberay:"):
        parts = urlsplit(subject.jobs)
        move = "Check --jobs, and that the head runs with its dashboard"
        yield _reached("ray jobs", parts.hostname or "", str(parts.port or ""), move)


def _prefect(api: str, word: str) -> Iterator[Finding]:
    """That it answers, lets us in, and is of our version and hour.

    Args:
        api: Its address.
        word: "NAME:PASSWORD", or "" for a server that asks for none.

    """
    headers = {"Authorization": f"Basic {base64.b64encode(word.encode()).decode()}"} if word else {}
    move = "Start it (prefect server start), or unset PREFECT_API_URL"
    try:
        asked = urllib.request.Request(f"{api}/admin/version", headers=headers)
        with urllib.request.urlopen(asked, timeout=_TIMEOUT_S) as answer:
            version, told = json.loads(answer.read()), answer.headers.get("Date")
    except urllib.error.HTTPError as error:
        closed = error.code in (401, 403)
        move = "Set PREFECT_API_AUTH_STRING to what the server was started with" if closed else move
        yield Finding(what="prefect", state=State.DOUBTFUL if closed else State.BAD, found=f"{api}: {error}", move=move)
        return
    except (OSError, ValueError) as error:
        yield Finding(what="prefect", state=State.BAD, found=f"{api} does not answer: {error}", move=move)
        return
    ours = metadata.version("prefect")
    same = version.split(".")[:2] == ours.split(".")[:2]
    move = "" if same else f"pip install prefect=={version}, or bring the server to {ours}"
    state = State.GOOD if same else State.BAD
    yield Finding(what="prefect", state=state, found=f"{api}, version {version}, ours {ours}", move=move)
    if told:
        skew = abs((datetime.now(UTC) - parsedate_to_datetime(told)).total_seconds())
        apart = skew > _SKEW_S
        move = "Let both machines follow a time server: schedules and leases go by the clock" if apart else ""
        state = State.DOUBTFUL if apart else State.GOOD
        yield Finding(what="prefect's clock", state=state, found=f"{skew:.0f} s from ours", move=move)


def _mlflow(registry: str) -> Finding:
    """That there is a server; what it lets us do is only seen by doing it."""
    move = "Start it (mlflow server), or unset MLFLOW_TRACKING_URI to keep models in the home"
    try:
        with urllib.request.urlopen(f"{registry.rstrip('/')}/health", timeout=_TIMEOUT_S):
            return Finding(what="mlflow", state=State.GOOD, found=f"{registry} answers")
    except (OSError, ValueError) as error:
        return Finding(what="mlflow", state=State.BAD, found=f"{registry} does not answer: {error}", move=move)


def _ray_secret(subject: Subject) -> Finding:
    mode = subject.environment.get("RAY_AUTH_MODE", "")
    if mode == "disabled":
        move = "Start the head with RAY_AUTH_MODE=token: who reaches an open cluster can run anything on it"
        return Finding(what="ray's token", state=State.DOUBTFUL, found="the cluster is said to be open", move=move)
    if mode != "token":
        move = "Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE to what the head was started with"
        return Finding(what="ray's token", state=State.BAD, found="RAY_AUTH_MODE is not set", move=move)
    if subject.environment.get("RAY_AUTH_TOKEN"):
        return Finding(what="ray's token", state=State.GOOD, found="in RAY_AUTH_TOKEN")
    name = subject.environment.get("RAY_AUTH_TOKEN_PATH", "")
    file = Path(name).expanduser() if name else Path.home() / ".ray" / "auth_token"
    if not file.is_file():
        return Finding(what="ray's token", state=State.BAD, found=f"{file} is no file", move="Set RAY_AUTH_TOKEN_PATH")
    if file.stat().st_mode & 0o077:
        return Finding(
            what="ray's token",
            state=State.BAD,
            found=f"others may read {file}",
            move=f"chmod 600 {file}, and change it",
        )
    return Finding(what="ray's token", state=State.GOOD, found=f"in {file}")


def _reached(what: str, host: str, port: str, move: str) -> Finding:
    try:
        socket.create_connection((host, int(port)), timeout=_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        return Finding(what=what, state=State.BAD, found=f"{host}:{port} does not connect: {error}", move=move)
    return Finding(what=what, state=State.GOOD, found=f"{host}:{port} connects")
