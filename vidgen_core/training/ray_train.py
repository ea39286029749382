"""Training on Ray: `fit` on a group of workers, started again from the last checkpoint when one of them is lost.

Ray Train is asked for processes and a process group, and for nothing else: checkpoints, rows and progress are the
run's own, because a report to Ray is slow and is not yet durable when it returns.

After a node was lost the group may be smaller. A step's batch is cut into the same pieces whoever computes them, so
with any number of workers that divides the pieces the run goes the same way, only slower; with another it would be
another run, which is why Ray's own elasticity is not used.
"""

import logging
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.fs
import ray
import ray.train
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.torch.config import _TorchBackend

from vidgen_core.errors import VidgenError
from vidgen_core.training import mistakes, stopping
from vidgen_core.training.checkpoints import published
from vidgen_core.training.fit import Fitted, finished, fit
from vidgen_core.training.job import Job
from vidgen_core.training.journal import Recorder
from vidgen_core.training.place import PEER_WAIT_S, Place
from vidgen_core.training.store import store_at

__all__ = ["fit_on_ray"]

_LOOK_AGAIN_S = 1.0
_log = logging.getLogger(__name__)


def fit_on_ray(
    job: Job, *, open_recorder: Callable[[], Recorder] | None = None, restarts: int = 2, patience_s: float = 0.0
) -> Fitted:
    """Run a job with `job.settings.workers` workers on the Ray that this process is connected to.

    Args:
        job: The run; all workers must see its work folder.
        open_recorder: Opens what takes the logged rows; called on the first worker only.
        restarts: How often in a row, without a new checkpoint between, the group may be started again.
        patience_s: How long to wait for nodes that can hold all workers; after a loss, fewer workers go on then.

    Raises:
        VidgenError: As `fit` raises it on a worker; or Ray lacks the CPUs or GPUs; or workers failed too often.
        KeyboardInterrupt: Somebody pressed Ctrl-C.

    """
    if job.final_dir.exists():
        return fit(job, place=Place())  # which takes the result as it is, and needs no workers for that
    ray_dir = job.work_dir / "ray"
    mistakes.forget(job)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with stopping.asking_by_file(job.work_dir):
            _run(job, open_recorder, ray_dir, restarts, patience_s)
    except SystemExit:
        # The trainer's own answer to Ctrl-C is to exit with 0, as if the work were done.
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, interrupt)
        shutil.rmtree(ray_dir, ignore_errors=True)
    if (told := mistakes.told(job)) is not None:
        raise told
    fitted = finished(job)
    if fitted is None:
        raise VidgenError("Training ended without a result", got=str(job.work_dir), move="Give the same command again")
    return fitted


def _run(
    job: Job, open_recorder: Callable[[], Recorder] | None, ray_dir: Path, restarts: int, patience_s: float
) -> None:
    """Start the group until it has ended well, or has failed too often without getting any further."""
    reached, left, lost = "", restarts, False
    while True:
        workers = _workers(job, patience_s, fewer=lost)
        shutil.rmtree(ray_dir, ignore_errors=True)
        ray_dir.mkdir(parents=True)
        try:
            _trainer(job, open_recorder, ray_dir, workers).fit()
            return
        except TrainingFailedError as error:
            newest = max(published(store_at(job.checkpoints)), default="")
            reached, left, lost = newest, (restarts if newest > reached else left) - 1, True
            if (mistake := mistakes.told(job)) is not None or left < 0:
                raise mistake or _summary(job, error) from None
            _log.warning("The group of %d workers was lost; it goes on from %s", workers, newest or "the start")


def _trainer(job: Job, open_recorder: Callable[[], Recorder] | None, ray_dir: Path, workers: int) -> TorchTrainer:
    settings = job.settings
    on_gpu = settings.device == "cuda"
    # Ray gives up after a minute, which importing PyTorch alone takes on a machine that is busy.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(PEER_WAIT_S))
    return TorchTrainer(
        _work,
        train_loop_config={"job": job, "open_recorder": open_recorder},
        torch_config=_Group(backend="nccl" if on_gpu else "gloo", timeout_s=PEER_WAIT_S),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=on_gpu, resources_per_worker={"CPU": settings.threads_per_worker}
        ),
        run_config=RunConfig(
            name="run",
            storage_path=str(ray_dir),
            # Named, because a folder's name may look like an address.
            storage_filesystem=pyarrow.fs.LocalFileSystem(),
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


class _Group(TorchConfig):
    """torch's process group among workers that hear a SIGTERM, as of a machine that is taken away."""

    @property
    def backend_cls(self) -> type["_GroupBackend"]:
        """What Ray starts on the workers before they train."""
        return _GroupBackend


class _GroupBackend(_TorchBackend):
    """Ray trains in a thread, which signals do not reach; what a backend starts runs in the main one."""

    def on_start(self, worker_group: Any, backend_config: _Group) -> None:
        """Open the process group, and listen."""
        super().on_start(worker_group, backend_config)
        worker_group.execute(stopping.hear)


def _work(config: dict[str, Any]) -> None:
    """What each worker runs, again from the start after the group lost a worker."""
    job, open_recorder = config["job"], config["open_recorder"]
    context = ray.train.get_context()
    place = Place(context.get_world_rank(), context.get_world_size(), str(get_device()))
    # Not quietly: Ray ends the others then, and restarts nothing. Leaving the process group would not reach them,
    # because modules of torch that are imported after it was opened keep it open.
    with mistakes.told_by_file(job, place, quiet=False):
        recorder = open_recorder() if open_recorder is not None and place.first else None
        try:
            fit(job, place=place, recorder=recorder)
        finally:
            if recorder is not None:
                recorder.close()


def _workers(job: Job, patience_s: float, *, fewer: bool) -> int:
    """How many workers to start: all, or after a loss as many as there is room for and share the pieces equally.

    Raises:
        VidgenError: There is no room for all of them, or after a loss for any.

    """
    settings, deadline = job.settings, time.monotonic() + patience_s
    while (room := _room(job)) < settings.workers and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN_S)
    if room >= settings.workers:
        return settings.workers
    if fewer and room:
        return max(count for count in range(1, room + 1) if settings.pieces % count == 0)
    each = f"{settings.threads_per_worker} CPUs" + (" and a GPU" if settings.device == "cuda" else "")
    raise VidgenError(
        f"{settings.workers} workers need {each} each, on one node, but Ray has room for {room}",
        move="Lower training.workers or training.threads_per_worker, or give Ray more; checkpoints are kept",
    )


def _room(job: Job) -> int:
    """Workers that the living nodes can hold."""
    settings = job.settings
    wanted = {"CPU": settings.threads_per_worker} | ({"GPU": 1} if settings.device == "cuda" else {})
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(int(min(node.get(name, 0.0) // count for name, count in wanted.items())) for node in nodes)


def _summary(job: Job, error: TrainingFailedError) -> VidgenError:
    """One line a failure; Ray's own text, with its tracebacks, goes to a file."""
    log_file = job.work_dir / "failure.log"
    log_file.write_text(str(error))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    errors = [line for line in lines if line.split(":")[0].endswith(("Error", "Exception", "Interrupt"))]
    return VidgenError(
        "Training stopped because its workers failed again and again",
        got=" | ".join(dict.fromkeys(errors[-3:] or lines[:1])),
        move=f"The whole story is in {log_file}; the same command goes on from the last checkpoint",
    )
