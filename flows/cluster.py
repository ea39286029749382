"""The door to Ray of the stages: a private Ray on this machine, or a cluster whose address was given; never another.

Work on a cluster has two conditions, which are looked at before it begins: every node runs the same vidgen, and sees
the home and the videos at the same path.
"""

import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from data_prep.run import RayRunner
from data_prep.storage import place_of
from flows.home import Home
from flows.spec import Spec
from vidgen_core import digests
from vidgen_core.errors import VidgenError
from vidgen_core.training.settings import TrainSettings

__all__ = ["PATIENCE_S", "REPLACEMENT_S", "check_address", "check_authentication", "cores_here", "fitting", "ray_of"]

# Blocks of a few MiB at a time pass through it; half a GiB leaves the machine's memory to the work.
OBJECT_STORE_BYTES = 512 * 2**20
PATIENCE_S = 600.0
"""How long a run on a cluster waits for a node that can take its tasks, and so for machines that are being started."""
REPLACEMENT_S = 60.0
"""How long training that lost a node waits for another, before it goes on with fewer workers."""
_ANSWER_S = 120.0
_CONNECT_S = 15.0
_OURS = ("flows", "data_prep", "vidgen_core")
# What decodes, encodes and computes: other versions may give other bytes.
_LIBRARIES = ("av", "imageio-ffmpeg", "numpy", "pillow", "pyarrow", "torch")


def cores_here() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def fitting(settings: TrainSettings, spec: Spec) -> TrainSettings:
    """The same training on as many cores as a Ray of our own has; a cluster's are for the cluster to give.

    Pieces of a batch stay as they are, so what is learned does too: fewer workers take more of them each.
    """
    if spec.ray or settings.launcher != "ray":
        return settings
    cores = spec.recipe.cores or cores_here()
    workers = max(n for n in range(1, min(settings.workers, cores) + 1) if settings.pieces % n == 0)
    threads = max(1, min(settings.threads_per_worker, cores // workers))
    changes = {"workers": workers, "accumulate": settings.pieces // workers, "threads_per_worker": threads}
    return settings.model_copy(update=changes)


@contextmanager
def ray_of(spec: Spec) -> Iterator[RayRunner]:
    """Connect this process to the Ray that a stage was told to use, and give what runs tasks there.

    Raises:
        VidgenError: There is no such cluster, it does not let us in, or a node of it cannot do the work.

    """
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    with _joined(spec) if spec.ray else _private(spec.home, spec.recipe.cores) as runner:
        yield runner


def check_address(address: str) -> None:
    """See that it is one cluster's, and that it was said how to prove that we may use it.

    Raises:
        VidgenError: It is no HOST:PORT, or RAY_AUTH_MODE is not set.

    """
    host, _, port = address.rpartition(":")
    if not host or "/" in address or not port.isdigit():
        raise VidgenError(
            "A Ray cluster is named by the host and port of its head",
            got=address,
            allowed="HOST:PORT, as `ray start --head` tells it",
            move="Start the command on a node of the cluster; from elsewhere, submit it as a Ray job",
        )
    check_authentication()


def check_authentication() -> None:
    """See that it was said how to prove that we may use a cluster.

    Raises:
        VidgenError: RAY_AUTH_MODE is not set.

    """
    if os.environ.get("RAY_AUTH_MODE") not in ("token", "disabled"):
        raise VidgenError(
            "Who reaches a Ray cluster can run anything on it, so it must be said how to prove that we may",
            got=os.environ.get("RAY_AUTH_MODE"),
            allowed="RAY_AUTH_MODE=token, or RAY_AUTH_MODE=disabled for a cluster that is open",
            move="Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE to what the head was started with",
        )


@contextmanager
def _private(home: Home, cores: int) -> Iterator[RayRunner]:
    """A Ray of our own, for as long as the block runs.

    Ray listens on all interfaces whatever it is told, and who reaches it can run anything: so it gets a fresh token
    that only our processes know. `address="local"`: without it Ray would join any cluster it finds on the machine.
    The caller holds the home's stage lock.
    """
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Ray's own is 15: with anything else on the machine, training then takes ten times as long.
        "RAY_worker_niceness": "0",
    }
    import ray

    folder = _session_dir(home)
    ray.init(
        address="local",
        num_cpus=cores or cores_here(),
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        logging_level="ERROR",
        log_to_driver=False,
        _temp_dir=str(folder),
    )
    try:
        yield RayRunner()
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _joined(spec: Spec) -> Iterator[RayRunner]:
    """A place on a running cluster; nothing of it is stopped at the end."""
    check_address(spec.ray)
    host, _, port = spec.ray.rpartition(":")
    # Ray reads how to authenticate when it is first imported.
    import ray

    try:
        # Ray tries for minutes to reach an address where nobody listens.
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        ray.init(address=spec.ray, logging_level="ERROR", log_to_driver=False)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        ray.shutdown()
        raise VidgenError(
            f"The Ray cluster at {spec.ray} cannot be joined: {_first_line(error)}",
            move="Check --ray, the token, and that a node of the cluster runs on this machine (`ray status`)",
        ) from error
    folder = spec.home.nodes_dir
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    witness = folder / secrets.token_hex(8)
    witness.write_text(socket.gethostname())
    try:
        place = place_of(spec.videos)
        _check_nodes(witness, [place] if isinstance(place, Path) else [])
        yield RayRunner(cores=spec.recipe.cores, witness=witness, patience_s=PATIENCE_S)
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _check_nodes(witness: Path, places: Sequence[Path]) -> None:
    """Let every node that can work show that it runs what we run and sees what we see.

    Raises:
        VidgenError: One does not.

    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    working = {node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")}
    probe = ray.remote(num_cpus=0, max_retries=1)(_probe)
    asked = {
        node: probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            witness, places, witness.with_name(node)
        )
        for node in sorted(working)
    }
    for node, answer in asked.items():
        try:
            host, missing, code = ray.get(answer, timeout=_ANSWER_S)
        except ray.exceptions.GetTimeoutError:
            raise VidgenError(f"A node did not answer in {_ANSWER_S:g} s", got=node, move="Take it out") from None
        except ray.exceptions.RayTaskError as error:
            raise VidgenError(
                f"A node cannot run vidgen: {_first_line(error.cause or error)}",
                got=node,
                move="Install the same vidgen on all nodes",
            ) from None
        except (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError):
            continue  # It left in the meantime, which may happen at any time.
        if not missing and not witness.with_name(node).exists():
            missing = [str(witness.parent)]
        if missing:
            raise VidgenError(
                f"The node {host} does not see what the run works on",
                got=", ".join(missing),
                move="Put the home and the videos on storage that all nodes have at the same path",
            )
        if differing := [name for name, value in code.items() if _code()[name] != value]:
            raise VidgenError(
                f"The node {host} does not run what this machine runs",
                got=", ".join(f"{name} {code[name]}" for name in differing),
                allowed=", ".join(f"{name} {_code()[name]}" for name in differing),
                move="Install the same versions on all nodes, or use one image for all",
            )


def _probe(witness: Path, places: Sequence[Path], answer: Path) -> tuple[str, list[str], dict[str, str]]:
    """On a node: its name, what of the run's folders it misses, and what it runs; leaves a file in the home."""
    missing = [str(place) for place in (witness, *places) if not place.exists()]
    if not missing:
        answer.write_text(socket.gethostname())
    return socket.gethostname(), missing, _code()


@cache
def _code() -> dict[str, str]:
    """What decides which bytes a task writes: our own files, and versions of libraries."""
    root = Path(__file__).parents[1]
    files = sorted(file for package in _OURS for file in (root / package).rglob("*.py"))
    own = digests.of_value([[file.relative_to(root).as_posix(), digests.of_file(file)] for file in files])
    return {"vidgen": own, **{name: metadata.version(name) for name in _LIBRARIES}}


def _first_line(error: Any) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def _session_dir(home: Home) -> Path:
    """An empty private folder for Ray's sockets and logs.

    A path of a socket holds 107 characters, so it cannot be in the home. It is named after the home so that the next
    stage clears what a killed one has left.
    """
    folder = Path(tempfile.gettempdir()) / f"vidgen-{os.getuid()}-{digests.of_value(str(home.root), 8)}"
    if folder.is_symlink() or (folder.exists() and folder.stat().st_uid != os.getuid()):
        raise VidgenError(
            "A folder for Ray's sockets belongs to somebody else",
            got=str(folder),
            move="Set TMPDIR to a folder of yours",
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder
