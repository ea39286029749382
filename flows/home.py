"""The one folder in which a run keeps everything: tables, databases, checkpoints, models, reports.

Deleting it forgets everything; copying it moves everything. Nothing is kept anywhere else, apart from
Ray's sockets, and tables and models that were put elsewhere: the files `tables.uri` and `registry.uri` say where.
"""

import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from vidgen_core.errors import VidgenError

if TYPE_CHECKING:
    from data_prep.tables import Tables

__all__ = ["Home", "registry_at"]

# Below this a run would die half way, at the worst in a database: 200 MiB.
MIN_FREE_BYTES = 200 * 2**20


@dataclass(frozen=True)
class Home:
    """Where things are kept; `Home.open` makes the folder and checks that it can be written."""

    root: Path

    @classmethod
    def open(cls, root: Path | str) -> "Home":
        """The home at `root`, made if missing.

        Raises:
            VidgenError: The folder cannot be made or written, or its disk is nearly full.

        """
        home = cls(Path(root).expanduser().resolve())
        try:
            home.runs_dir.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise VidgenError(
                "The home folder cannot be made", got=str(home.root), move=f"{error.strerror}: choose another --home"
            ) from error
        if not os.access(home.root, os.W_OK | os.X_OK):
            raise VidgenError(
                "The home folder cannot be written",
                got=str(home.root),
                move="Choose another --home, or change its mode",
            )
        free = shutil.disk_usage(home.root).free
        if free < MIN_FREE_BYTES:
            raise VidgenError(
                f"The disk of the home folder {home.root} is nearly full: {free // 2**20} MiB are free",
                allowed=f"at least {MIN_FREE_BYTES // 2**20} MiB",
                move="Free some space there, or choose another --home",
            )
        return home

    @property
    def tables_dir(self) -> Path:
        """Delta tables, or copies of their files when they are elsewhere."""
        return self.root / "tables"

    def tables(self) -> "Tables":
        """The tables of this home, wherever they are."""
        from data_prep.storage import place_of
        from data_prep.tables import Tables

        uri = self._tables_uri()
        place = place_of(uri) if uri else self.tables_dir
        return Tables(place) if isinstance(place, Path) else Tables(self.tables_dir, place)

    def keep_tables_at(self, uri: str) -> None:
        """Choose where the tables are; what was chosen once stays.

        Args:
            uri: A place such as s3://bucket/tables, or a folder.

        Raises:
            VidgenError: The tables of this home are elsewhere already, or the place cannot be used.

        """
        from data_prep.storage import place_of

        place, before = place_of(uri), self._tables_uri()
        chosen = place.resolve().as_uri() if isinstance(place, Path) else place.uri
        there = next(self.tables_dir.glob("**/_delta_log"), None) if not before else None
        if chosen != before and (before or there):
            raise VidgenError(
                "The tables of this home are elsewhere already",
                got=chosen,
                allowed=before or str(self.tables_dir),
                move="Choose another --home",
            )
        if not isinstance(place, Path):
            # There may be anything or nothing: asking shows whether it can be used.
            place.names(folders=True)
        self._tables_file.write_text(chosen + "\n")

    @property
    def _tables_file(self) -> Path:
        return self.root / "tables.uri"

    def _tables_uri(self) -> str:
        return self._tables_file.read_text().strip() if self._tables_file.exists() else ""

    @property
    def releases_dir(self) -> Path:
        """One JSON file a data release, named by its digest."""
        return self.root / "releases"

    @property
    def codecs_dir(self) -> Path:
        """Training of codecs, one folder a training job."""
        return self.root / "codecs"

    @property
    def encoders_dir(self) -> Path:
        """Training of video encoders, one folder a training job."""
        return self.root / "encoders"

    @property
    def training_dir(self) -> Path:
        """Training of families, one folder a training job."""
        return self.root / "training"

    @property
    def models_dir(self) -> Path:
        """Generators, complete and ready to be registered, one folder a training job."""
        return self.root / "models"

    @property
    def reports_dir(self) -> Path:
        """One HTML page a run."""
        return self.root / "reports"

    @property
    def runs_dir(self) -> Path:
        """What stages were asked, answered and printed, one folder a run."""
        return self.root / "runs"

    @property
    def nodes_dir(self) -> Path:
        """Where the nodes of a cluster show that they see the home, while a stage runs on them."""
        return self.root / "nodes"

    @property
    def cache_dir(self) -> Path:
        """Models fetched from the registry; safe to delete."""
        return self.root / "cache"

    @property
    def prefect_dir(self) -> Path:
        """The embedded Prefect's database and log."""
        return self.root / "prefect"

    @property
    def mlflow_uri(self) -> str:
        """MLflow's database, or the server that was chosen instead."""
        return self._registry_uri() or f"sqlite:///{self._mlflow_db}"

    @property
    def artifacts_dir(self) -> Path | None:
        """MLflow's artifacts; None where a server keeps them."""
        return None if self._registry_uri() else self.root / "mlartifacts"

    @property
    def has_registry(self) -> bool:
        """Whether anything can have been registered."""
        return bool(self._registry_uri()) or self._mlflow_db.exists()

    def keep_registry_at(self, uri: str) -> None:
        """Choose an MLflow server for runs and models; every command over this home then asks that one.

        Who we are to it stays in the environment: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or
        MLFLOW_TRACKING_TOKEN.

        Args:
            uri: http(s)://HOST:PORT; another than before is taken for the same server at a new address.

        Raises:
            VidgenError: It is no server's address, holds a secret, or the home has a registry of its own already.

        """
        parts = urlsplit(uri)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise VidgenError(
                "Runs and models are kept in the home, or at an MLflow server",
                got=urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])),
                allowed="http://HOST:PORT or https://HOST, without a name or password",
                move="Set MLFLOW_TRACKING_URI to the server, and MLFLOW_TRACKING_USERNAME and _PASSWORD beside it",
            )
        if self._mlflow_db.exists():
            raise VidgenError(
                "The models of this home are registered in the home already",
                got=uri,
                allowed=f"sqlite:///{self._mlflow_db}",
                move="Unset MLFLOW_TRACKING_URI, or choose another --home",
            )
        self._registry_file.write_text(uri.rstrip("/") + "\n")

    def keep_named_registry(self) -> None:
        """Choose the MLflow server that MLFLOW_TRACKING_URI names, if it is set; each command that registers does so.

        Raises:
            VidgenError: See `keep_registry_at`.

        """
        if server := os.environ.get("MLFLOW_TRACKING_URI"):
            self.keep_registry_at(server)

    @property
    def _mlflow_db(self) -> Path:
        return self.root / "mlflow.db"

    @property
    def _registry_file(self) -> Path:
        return self.root / "registry.uri"

    def _registry_uri(self) -> str:
        return self._registry_file.read_text().strip() if self._registry_file.exists() else ""

    @contextmanager
    def trial(self, what: str) -> Iterator[Path]:
        """A folder beside the trainings for as long as the block runs.

        Those of predecessors that were killed go first, so the caller holds a lock that only one such block can have.

        Args:
            what: What it is for, its name's first part.

        """
        self.training_dir.mkdir(parents=True, exist_ok=True)
        for left in self.training_dir.glob(f".{what}-*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=f".{what}-", dir=self.training_dir) as folder:
            yield Path(folder)

    @contextmanager
    def lock(self, what: str = "run", *, wait_s: float = 2.0) -> Iterator[None]:
        """Hold the home alone while the block runs; locks of the same process nest.

        The kernel drops the lock when its holder dies, so a killed run never leaves a stale one.

        Args:
            what: Which lock; a run and a stage have their own.
            wait_s: How long a dying predecessor may take to let go.

        Raises:
            VidgenError: Another process holds it.

        """
        file = self.root / f"{what}.lock"
        with file.open("a+") as stream:
            nested = not _locked(stream.fileno(), wait_s, file)
            if not nested:
                stream.truncate(0)
                stream.write(_me())
                stream.flush()
            yield


def registry_at(where: str) -> tuple[str, Path | None]:
    """Another registry: its address, and where its files go if it is a database on this machine.

    Args:
        where: A home, or the address of an MLflow store: http://HOST:5000, sqlite:///FILE.

    """
    if where.startswith("sqlite:///"):
        return where, Path(where.removeprefix("sqlite:///")).absolute().parent / "mlartifacts"
    if "://" in where:
        return where, None
    home = Home.open(where)
    return home.mlflow_uri, home.artifacts_dir


def _locked(descriptor: int, wait_s: float, file: Path) -> bool:
    """True when the lock was taken, False when this process holds it already."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            holder = file.read_text().strip()
            if holder == _me():
                return False
            if time.monotonic() > deadline:
                raise VidgenError(
                    f"Another run is working in {file.parent}, as process {holder or 'unknown'}",
                    move="Wait for it, stop it, or choose another --home",
                ) from None
            time.sleep(0.1)


def _me() -> str:
    """Our process among all that may share the home; containers often give the same number to theirs."""
    return f"{os.getpid()} on {socket.gethostname()}"
