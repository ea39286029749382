"""A Prefect server of our own for as long as a command runs, so that no service has to be started first.

Prefect can start one by itself, but that takes twice as long (7 s instead of 3 s on a used home, since it also builds
the server in the client), and it survives a kill -9 of the command. Where the user names a server in
PREFECT_API_URL, that one is used.
"""

import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.failures import StageCrashedError, disk_full, is_disk_full
from flows.home import Home
from flows.launch.local import Guarded
from flows.ports import check_port, free_port

__all__ = ["password_file", "prefect_server", "quiet_environment"]

AUTH = "PREFECT_API_AUTH_STRING"
START_TIMEOUT_S = 180.0
HAND_OVER_S = 5.0


def quiet_environment(home: Home) -> dict[str, str]:
    """Prefect's settings for the embedded use; they must stand before the first `import prefect`."""
    return {
        "PREFECT_HOME": str(home.prefect_dir),
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
        # Our own lines and sentences are what the user sees; the full record is in Prefect's database.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # Unless the recorder batches, most task runs are lost when the server ends.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
        # A whole number: the recorder drops the fraction, and with 0 it spins on a core.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    }


def password_file(home: Home) -> Path:
    """Where the name and password of a server that stays are, for its page and for commands elsewhere."""
    return home.prefect_dir / "auth"


@contextmanager
def prefect_server(home: Home, *, port: int | None = None) -> Iterator[None]:
    """Give Prefect a server while the block runs; importing Prefect overlaps with the server's start.

    Who may use its API may run deployments and so code, and that is any program and any web page on this machine: so it
    asks for a password, which a server that does not stay tells our processes alone.

    Args:
        home: Has its database.
        port: Where a server is to listen that stays: with Prefect's page, schedules and automations. None takes a free
            port for a server that does no more than keep what a command does.

    Raises:
        VidgenError: Another program listens at the port.

    """
    if "PREFECT_API_URL" in os.environ:
        yield
        return
    home.prefect_dir.mkdir(parents=True, exist_ok=True)
    stays = port is not None
    if port is None:
        port = free_port()
    else:
        check_port(port, "--port")
    api = f"http://127.0.0.1:{port}/api"
    word = _password(password_file(home)) if stays else _new_password()
    os.environ |= quiet_environment(home) | {"PREFECT_UI_ENABLED": str(stays).lower()}
    factory = "prefect.server.api.server:create_app"
    command = [sys.executable, "-m", "uvicorn", "--factory", factory, "--host", "127.0.0.1", "--port", str(port)]
    server = Guarded(
        [*command, "--log-level", "error", "--lifespan", "on"],
        log_file=home.prefect_dir / "server.log",
        environment={
            "PREFECT__SERVER_FINAL": "1",
            "PREFECT_SERVER_API_AUTH_STRING": word,
            **({} if stays else {"PREFECT__SERVER_EPHEMERAL": "1"}),
        },
    )
    try:
        # Prefect reads its settings when it is imported, and would start a second server if it found no address.
        os.environ |= {"PREFECT_API_URL": api, AUTH: word}
        import prefect  # noqa: F401  - one second of work while the server starts

        _wait_until_healthy(server, api, home)
        yield
        _hand_over_events()
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        os.environ.pop(AUTH, None)
        server.stop()


def _hand_over_events() -> None:
    """Send what Prefect's client still holds while there is a server to take it: states of task runs travel so."""
    from prefect.events.worker import EventsWorker

    EventsWorker.drain_all(timeout=HAND_OVER_S)


def _new_password() -> str:
    return f"vidgen:{secrets.token_hex(16)}"


def _password(file: Path) -> str:
    """The one of this home, made when it is first asked for; nobody else may read it."""
    if not file.exists():
        fresh = file.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(_new_password())
        fresh.replace(file)
    return file.read_text()


def _wait_until_healthy(server: Guarded, api: str, home: Home) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            log = (home.prefect_dir / "server.log").read_text(errors="replace")
            if is_disk_full(OSError(log[-2000:])):
                raise disk_full(home.root)
            raise StageCrashedError(f"Prefect's server ended at once. Its log: {home.prefect_dir / 'server.log'}")
        try:
            with urllib.request.urlopen(f"{api}/health", timeout=1.0) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    raise StageCrashedError(f"Prefect's server did not start in {START_TIMEOUT_S:g} s")
