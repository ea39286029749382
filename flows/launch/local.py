"""Run a stage as a child process of this machine, show how far it is, and leave nothing of it behind."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from pydantic import ValidationError

from flows.failures import DISK_FULL_EXIT, MISTAKE_EXIT, Mistake, StageCrashedError, disk_full
from flows.launch import guard
from flows.show import Show
from flows.spec import Follow, Progress, Spec, StageResult
from flows.stage import write_value

__all__ = ["Guarded", "answer", "clear", "progress", "run"]

POLL_S = 0.2


class Guarded:
    """A process under a guard: it and all its descendants are gone after `stop`, or when this process dies.

    Args:
        command: What to run.
        log_file: Takes its standard output and error; appended to.
        environment: Variables on top of ours.

    """

    def __init__(self, command: list[str], *, log_file: Path, environment: dict[str, str] | None = None) -> None:
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(
                # -S and -E: the guard needs the standard library only, and starts in 20 ms so.
                [sys.executable, "-S", "-E", str(Path(guard.__file__)), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                process_group=0,
            )

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        """The exit code, or None when it still runs after `timeout_s`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def stop(self) -> None:
        """End it and all that it started; returns when they are gone."""
        if self._process.poll() is not None:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"s")
            self._process.stdin.close()
        if self.wait(guard.CLEAN_STOP_S + guard.SWEEP_S + 1.0) is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def run(spec: Spec, show: Show) -> StageResult:
    """Run a stage to its end.

    Raises:
        VidgenError: The stage ended with a sentence for the user.
        StageCrashedError: It ended in another way.

    """
    clear(spec)
    write_value(spec.spec_file, spec)
    command = [sys.executable, "-m", "flows.stage", "--spec", str(spec.spec_file)]
    stage = Guarded(command, log_file=spec.log_file, environment=_environment())
    try:
        while stage.wait(POLL_S) is None:
            show.progress(progress(spec))
    finally:
        stage.stop()
    return answer(spec, stage.poll())


def clear(spec: Spec) -> None:
    """Make room for what a stage tells, and remove what an earlier one told."""
    spec.run_dir.mkdir(parents=True, exist_ok=True)
    for stale in (spec.mistake_file, spec.result_file(spec.stage), spec.progress_file, spec.follow_file):
        stale.unlink(missing_ok=True)


def _environment() -> dict[str, str]:
    """The stage imports the code that we run, installed or not, and prints as it goes."""
    root = str(Path(__file__).parents[2])
    path = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root, "PYTHONUNBUFFERED": "1"}


def progress(spec: Spec) -> Progress | None:
    """How far a stage is, as it tells in the home."""
    try:
        file = spec.progress_file
        if spec.follow_file.exists():
            file = Follow.model_validate_json(spec.follow_file.read_text()).file
        return Progress.model_validate_json(file.read_text())
    except (FileNotFoundError, ValidationError):
        return None


def answer(spec: Spec, code: int | None, told: str = "") -> StageResult:
    """What a stage that ended with this code came to.

    Args:
        spec: What it was asked.
        code: Its exit code, or the negative number of the signal that ended it.
        told: What who ran it says of its end, for one that printed nothing.

    Raises:
        VidgenError: It ended with a sentence for the user.
        StageCrashedError: It ended in another way.

    """
    if code is not None and code < 0:
        code = 128 - code
    if code == 0:
        return StageResult.model_validate_json(spec.result_file(spec.stage).read_text())
    if code == MISTAKE_EXIT and spec.mistake_file.exists():
        raise Mistake.model_validate_json(spec.mistake_file.read_text()).error()
    if code == DISK_FULL_EXIT:
        raise disk_full(spec.home_dir)
    how = f"ended with exit code {code}" if code is None or code < 128 else f"was killed by signal {code - 128}"
    if code == 128 + signal.SIGKILL:
        how += " (the machine may have run out of memory)"
    words = _last_words(spec) or told or "it printed nothing."
    raise StageCrashedError(
        f"The stage {spec.stage!r} {how}: {words} Its log: {spec.log_file}",
        died=code is None or code > 128,
    )


def _last_words(spec: Spec) -> str:
    """The last line that this attempt printed; "" if it printed none."""
    log, asked = spec.log_file, spec.spec_file
    # Attempts append to one log, and each begins with a spec that is written anew.
    if not log.exists() or (asked.exists() and log.stat().st_mtime_ns < asked.stat().st_mtime_ns):
        return ""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
