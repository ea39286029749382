"""Run a stage as a job of a Ray cluster's job server, from any machine that has the home.

The stage writes its answer, its progress and its log into the home, as it does under `local`; the job server is asked
for no more than to start the stage, to say whether it lives, and to stop it. A job is named after what it does, so a
command that is given again while the job runs goes on watching it and does not start a second one.
"""

import re
import shlex
import time
from collections.abc import Callable
from typing import Any, TypeVar

from flows.cluster import check_authentication
from flows.launch import local
from flows.show import Show
from flows.spec import Spec, StageResult
from flows.stage import write_value
from vidgen_core import digests
from vidgen_core.errors import VidgenError

__all__ = ["SILENCE_S", "command", "first_line", "run", "stopped"]

POLL_S = 1.0
# A head that starts again takes its time, and its jobs are not lost by that.
SILENCE_S = 120.0
FIRST_S = 10.0
STOP_S = 15.0
_NOT_READY = re.compile("No available agent|status code 50[23]")
# Where nothing is asked but how a job is, no trouble of the server's is an answer.
_IN_TROUBLE = re.compile(r"No available agent|status code 5\d\d")
Answer = TypeVar("Answer")


def run(spec: Spec, show: Show) -> StageResult:
    """Run a stage to its end, or watch the job that does it already. Stopped here, it is stopped there.

    A job that cannot be watched any more goes on, and the same command finds it again.

    Raises:
        VidgenError: The job server does not let us in or is gone, or the stage ended with a sentence for the user.
        StageCrashedError: It ended in another way.

    """
    jobs = _Jobs(spec.jobs)
    name, running = jobs.place(f"vidgen-{digests.of_value([spec.run_key, str(spec.home_dir), spec.stage])}")
    if not running:
        local.clear(spec)
        write_value(spec.spec_file, spec)
        jobs.submit(name, command(spec), {"vidgen_run": spec.run_key, "vidgen_stage": spec.stage})
    try:
        while not (status := jobs.status(name)).is_terminal():
            show.progress(local.progress(spec))
            time.sleep(POLL_S)
    except VidgenError:
        raise
    except BaseException:
        jobs.stop(name)
        raise
    if status == "SUCCEEDED":
        return local.answer(spec, 0)
    info = jobs.info(name)
    if info.status == "STOPPED":
        raise stopped(name)
    code = 1 if info.driver_exit_code is None else int(info.driver_exit_code)
    return local.answer(spec, code, first_line(info.message))


def stopped(name: str) -> VidgenError:
    """The sentence for a job that somebody stopped."""
    return VidgenError(f"The job {name} was stopped on the cluster", move="The same command goes on from here")


def first_line(message: str | None) -> str:
    """What a job server says of a job, without the end of the log that follows; "" if it says nothing."""
    lines = [line.strip() for line in (message or "").splitlines() if line.strip()]
    return lines[0][:300] if lines else ""


def command(spec: Spec) -> str:
    """The stage, on the cluster that the job is of; its words go to the log in the home, and to the job's."""
    stage = f'python -m flows.stage --spec {shlex.quote(str(spec.spec_file))} --ray "$RAY_ADDRESS"'
    return f"bash -c {shlex.quote(f'set -o pipefail; {stage} 2>&1 | tee -a {shlex.quote(str(spec.log_file))}')}"


class _Jobs:
    """A job server."""

    def __init__(self, address: str) -> None:
        check_authentication()
        # Ray reads how to authenticate when it is first imported.
        from ray.job_submission import JobSubmissionClient

        self._address = address
        self._client = self._patiently(lambda: JobSubmissionClient(address), FIRST_S)

    def place(self, name: str) -> tuple[str, bool]:
        """The name of the last job of this kind that runs, or of the next one; and whether it runs."""
        jobs = self._patiently(lambda: self._client.list_jobs())
        there = {job.submission_id: job for job in jobs if job.submission_id}
        number = 0
        while (job := there.get(f"{name}-{number}")) is not None:
            if not job.status.is_terminal():
                return f"{name}-{number}", True
            number += 1
        return f"{name}-{number}", False

    def submit(self, name: str, command: str, metadata: dict[str, str]) -> None:
        """Start a job; one that another command has started under this name in the same moment will do."""
        try:
            self._patiently(lambda: self._client.submit_job(entrypoint=command, submission_id=name, metadata=metadata))
        except VidgenError as error:
            if "already exists" not in str(error.__cause__):
                raise

    def status(self, name: str) -> Any:
        """How it is, after some silence if need be."""
        return self._patiently(lambda: self._client.get_job_status(name), waits_for=_IN_TROUBLE)

    def info(self, name: str) -> Any:
        """How it ended: its status, exit code and message."""
        return self._patiently(lambda: self._client.get_job_info(name), waits_for=_IN_TROUBLE)

    def stop(self, name: str) -> None:
        """Stop it, and wait until it is over; it may be that nobody answers."""
        try:
            self._client.stop_job(name)
            deadline = time.monotonic() + STOP_S
            while not self._client.get_job_status(name).is_terminal() and time.monotonic() < deadline:
                time.sleep(0.2)
        except (OSError, RuntimeError):
            return

    def _patiently(
        self, ask: Callable[[], Answer], silence_s: float = SILENCE_S, *, waits_for: re.Pattern[str] = _NOT_READY
    ) -> Answer:
        """The server's answer; where it is not ready yet, or not any more, a later one."""
        from ray.exceptions import RayError

        deadline = time.monotonic() + silence_s
        while True:
            try:
                return ask()
            except (OSError, RuntimeError, ValueError, RayError) as error:
                waits = isinstance(error, OSError) or waits_for.search(str(error)) is not None
                if not waits or time.monotonic() > deadline:
                    raise self._refused(error) from error
                time.sleep(POLL_S)

    def _refused(self, error: Exception) -> VidgenError:
        said = first_line(str(error)).rstrip(".") or type(error).__name__
        return VidgenError(
            f"The job server does not take our jobs: {said}",
            got=self._address,
            move="Check --jobs, RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH, and that the head runs with its dashboard",
        )
