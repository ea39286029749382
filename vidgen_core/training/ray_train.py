"""Training on Ray: `fit` on a group of workers, started again from the last checkpoint when one of them is lost.

Ray Train is asked for processes, a process group and restarts, and for nothing else: checkpoints, rows and progress
are the run's own, because a report to Ray is slow and is not yet durable when it returns.
"""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.fs
import ray
import ray.train
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from vidgen_core.errors import VidgenError
from vidgen_core.training import mistakes, stopping
from vidgen_core.training.fit import Fitted, finished, fit
from vidgen_core.training.job import Job
from vidgen_core.training.journal import Recorder
from vidgen_core.training.place import PEER_WAIT_S, Place

__all__ = ["fit_on_ray"]


def fit_on_ray(job: Job, *, open_recorder: Callable[[], Recorder] | None = None, restarts: int = 2) -> Fitted:
    """Run a job with `job.settings.workers` workers on the Ray that this process is connected to.

    Args:
        job: The run; all workers must see its work folder.
        open_recorder: Opens what takes the logged rows; called on the first worker only.
        restarts: How often the group may be started again after it lost a worker.

    Raises:
        VidgenError: As `fit` raises it on a worker; or Ray lacks the CPUs or GPUs; or workers failed too often.
        KeyboardInterrupt: Somebody pressed Ctrl-C.

    """
    if job.final_dir.exists():
        return fit(job, place=Place())  # which takes the result as it is, and needs no workers for that
    _check_resources(job)
    ray_dir = job.work_dir / "ray"
    shutil.rmtree(ray_dir, ignore_errors=True)
    ray_dir.mkdir(parents=True)
    mistakes.forget(job)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with stopping.asking_by_file(job.work_dir):
            _trainer(job, open_recorder, ray_dir, restarts).fit()
    except TrainingFailedError as error:
        raise mistakes.told(job) or _summary(job, error) from None
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


def _trainer(job: Job, open_recorder: Callable[[], Recorder] | None, ray_dir: Path, restarts: int) -> TorchTrainer:
    settings = job.settings
    on_gpu = settings.device == "cuda"
    return TorchTrainer(
        _work,
        train_loop_config={"job": job, "open_recorder": open_recorder},
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo", timeout_s=PEER_WAIT_S),
        scaling_config=ScalingConfig(
            num_workers=settings.workers, use_gpu=on_gpu, resources_per_worker={"CPU": settings.threads_per_worker}
        ),
        run_config=RunConfig(
            name="run",
            storage_path=str(ray_dir),
            # Named, because a folder's name may look like an address.
            storage_filesystem=pyarrow.fs.LocalFileSystem(),
            failure_config=FailureConfig(max_failures=restarts, controller_failure_limit=restarts),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _work(config: dict[str, Any]) -> None:
    """What each worker runs, again from the start after the group lost a worker."""
    job, open_recorder = config["job"], config["open_recorder"]
    context = ray.train.get_context()
    place = Place(context.get_world_rank(), context.get_world_size(), str(get_device()))
    with mistakes.told_by_file(job, place):
        recorder = open_recorder() if open_recorder is not None and place.first else None
        try:
            fit(job, place=place, recorder=recorder)
        finally:
            if recorder is not None:
                recorder.close()


def _check_resources(job: Job) -> None:
    settings = job.settings
    there = ray.cluster_resources()
    wanted = {"CPU": settings.workers * settings.threads_per_worker}
    if settings.device == "cuda":
        wanted["GPU"] = settings.workers
    for name, count in wanted.items():
        if there.get(name, 0) < count:
            raise VidgenError(
                f"{settings.workers} workers need {count} {name}s, but Ray has {there.get(name, 0):g}",
                move="Lower training.workers or training.threads_per_worker, or give Ray more",
            )


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
