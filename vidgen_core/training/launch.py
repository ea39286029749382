"""Starting a run: on Ray, in this process, or as processes that torchrun starts. All of them end with the same bytes.

`python -m vidgen_core.training.launch --job FILE` is one worker. Under torchrun, here or on many machines with one
disk, it takes its place from the environment that torchrun sets; by itself it is the only worker.
"""

import argparse
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from vidgen_core.errors import VidgenError
from vidgen_core.training import mistakes, stopping
from vidgen_core.training.fit import Fitted, finished, fit
from vidgen_core.training.job import Job
from vidgen_core.training.journal import History, Recorder
from vidgen_core.training.place import PEER_WAIT_S, Place

__all__ = ["fit_as_asked", "fit_by_torchrun", "fit_here", "joined", "main", "write_job"]

_LOOK_S, _HAND_S = 0.2, 2.0
_MODULE = "vidgen_core.training.launch"


def fit_as_asked(job: Job, *, open_recorder: Callable[[], Recorder] | None = None, patience_s: float = 0.0) -> Fitted:
    """Run a job by the launcher that its settings name.

    Args:
        job: The run.
        open_recorder: Opens what takes the logged rows.
        patience_s: How long Ray may wait for nodes; see `fit_on_ray`.

    Raises:
        VidgenError: As `fit` raises it; or the launcher cannot start so many workers.

    """
    if job.settings.launcher == "ray":
        # Ray reads how to authenticate when it is first imported, so not before it was told.
        from vidgen_core.training.ray_train import fit_on_ray

        return fit_on_ray(job, open_recorder=open_recorder, patience_s=patience_s)
    recorder = open_recorder() if open_recorder is not None else None
    try:
        return (fit_here if job.settings.launcher == "process" else fit_by_torchrun)(job, recorder)
    finally:
        if recorder is not None:
            recorder.close()


def fit_here(job: Job, recorder: Recorder | None = None) -> Fitted:
    """Run a job of one worker in this process.

    Raises:
        VidgenError: As `fit` raises it; or the job wants more than one worker.

    """
    if job.settings.workers > 1:
        raise VidgenError(
            f"One process cannot be {job.settings.workers} workers",
            move="Set training.launcher to torchrun or ray, or training.workers to 1 with a larger training.accumulate",
        )
    return fit(job, place=Place(device=job.settings.device), recorder=recorder)


def fit_by_torchrun(job: Job, recorder: Recorder | None = None, *, restarts: int = 2) -> Fitted:
    """Run a job as `job.settings.workers` processes on this machine, started again when one of them is lost.

    Args:
        job: The run.
        recorder: Takes the rows, which this process reads from the run's history; a lost worker loses none of them.
        restarts: How often the processes may be started again.

    Raises:
        VidgenError: As `fit` raises it on a worker; or workers failed too often.

    """
    if job.final_dir.exists():
        return fit(job, place=Place())  # which takes the result as it is, and needs no workers for that
    job_file = write_job(job)
    mistakes.forget(job)
    # What torchrun keeps of its rendezvous is pickled. By default that is at a port on all interfaces, where whoever
    # reaches it could have code run; a file has the permissions of the home.
    meeting = job.work_dir / f"meeting-{secrets.token_hex(8)}"
    command = [
        sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={job.settings.workers}",
        "--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}", "--rdzv-conf=store_type=file", f"--rdzv-id={meeting.name}",
        "--local-addr=127.0.0.1", f"--max-restarts={restarts}", "-m", _MODULE, "--job", str(job_file),
    ]  # fmt: skip
    log_file = job.work_dir / "failure.log"
    with log_file.open("wb") as log:
        workers = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=_environment())
    try:
        with stopping.asking_by_file(job.work_dir):
            _follow(workers, job, recorder)
    finally:
        if workers.poll() is None:
            workers.terminate()
            workers.wait()
        meeting.unlink(missing_ok=True)
    if (told := mistakes.told(job)) is not None:
        raise told
    fitted = finished(job)
    if fitted is None:
        raise VidgenError(
            "Training stopped because its workers failed again and again",
            got=_last_error(log_file),
            move=f"The whole story is in {log_file}; the same command goes on from the last checkpoint",
        )
    log_file.unlink()
    return fitted


def write_job(job: Job) -> Path:
    """Write a job into its work folder, for workers to read."""
    job.work_dir.mkdir(parents=True, exist_ok=True)
    file = job.work_dir / "job.json"
    file.write_text(job.model_dump_json())
    return file


@contextmanager
def joined(device: str, environment: Mapping[str, str] = os.environ, *, meeting: str | None = None) -> Iterator[Place]:
    """Take this worker's place, with torch's process group open for as long as the block lasts.

    Args:
        device: "cpu" or "cuda"; on the latter a worker takes the GPU of its number on its machine.
        environment: RANK, WORLD_SIZE and LOCAL_RANK as torchrun sets them; without them this is the only worker.
        meeting: Where workers meet, a URL for torch; None takes it from the environment too.

    """
    rank, world = int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1))
    if device == "cuda":
        device = f"cuda:{environment.get('LOCAL_RANK', 0)}"
        torch.cuda.set_device(device)
    if world == 1:
        yield Place(device=device)
        return
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    wait = timedelta(seconds=PEER_WAIT_S)
    store, _, _ = next(rendezvous(meeting or "env://", rank, world, timeout=wait))
    # torchrun's store outlives a restart, and with it the addresses of workers that are gone.
    store = PrefixStore(f"start-{environment.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=wait)
    try:
        yield Place(rank, world, device)
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def main(arguments: list[str] | None = None) -> None:
    """One worker."""
    parser = argparse.ArgumentParser(prog="python -m vidgen_core.training.launch", description=__doc__)
    parser.add_argument("--job", type=Path, required=True, help="the job, as JSON")
    job = Job.model_validate_json(parser.parse_args(arguments).job.read_text())
    with joined(job.settings.device) as place, mistakes.told_by_file(job, place):
        fit(job, place=place)


def _environment() -> dict[str, str]:
    # Workers on one machine need nobody outside it.
    return {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", **os.environ}


def _follow(workers: subprocess.Popen[bytes], job: Job, recorder: Recorder | None) -> None:
    """Hand the rows of the history to the recorder until the workers have ended."""
    file, told_file = job.work_dir / "history.jsonl", job.work_dir / "history.told"
    # How many rows the recorder has for sure, so that neither a crash of ours nor one of theirs loses a row.
    told = int(told_file.read_text()) if told_file.exists() else 0
    ended, handed = False, time.monotonic()
    while not ended:
        ended = workers.poll() is not None
        if recorder is not None and (ended or time.monotonic() - handed > _HAND_S):
            handed = time.monotonic()
            # A restart cuts the history back to its checkpoint; the rows that then come again are those told already.
            rows = History.read(file)[told:]
            for row in rows:
                recorder.log(row["step"], {name: value for name, value in row.items() if name != "step"})
            if rows:
                recorder.flush()
                told += len(rows)
                told_file.write_text(str(told))
        if not ended:
            time.sleep(_LOOK_S)


def _last_error(log_file: Path) -> str:
    lines = [line.strip() for line in log_file.read_text(errors="replace").splitlines()]
    errors = [line for line in lines if line.partition("]:")[2].split(":")[0].endswith(("Error", "Exception"))]
    errors += [line for line in lines if line.split(":")[0].endswith(("Error", "Exception"))]
    return " | ".join(dict.fromkeys(errors[-3:])) or "no error was printed"


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    # Gloo's threads sometimes abort a process that ends as usual, when all its work is done.
    os._exit(0)
