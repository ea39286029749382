"""The door to Ray of the stages: a private Ray on this machine, for as long as a block runs."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.home import Home
from vidgen_core import digests
from vidgen_core.errors import VidgenError

__all__ = ["cores_here", "local_ray"]

# Blocks of a few MiB at a time pass through it; half a GiB leaves the machine's memory to the work.
OBJECT_STORE_BYTES = 512 * 2**20


def cores_here() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def local_ray(home: Home, cores: int) -> Iterator[None]:
    """Start a Ray of our own, and end it.

    Ray listens on all interfaces whatever it is told, and who reaches it can run anything: so it gets a fresh token
    that only our processes know. `address="local"`: without it Ray would join any cluster it finds on the machine.

    Args:
        home: Whose Ray it is; the caller holds the home's stage lock.
        cores: Cores to offer; 0 is all that there are.

    """
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_V2_ENABLED": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
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
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


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
