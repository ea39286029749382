"""How long a step of a family takes here: a few steps of its training, of which nothing is kept."""

from contextlib import nullcontext

from flows.cluster import ray_of
from flows.spec import Row, Spec, StageResult
from flows.stage import ProgressFile
from flows.stages.train import job_of
from vidgen_core import digests
from vidgen_core.errors import VidgenError
from vidgen_core.training.journal import History
from vidgen_core.training.launch import fit_as_asked

__all__ = ["run"]

_STEPS = 24  # more than the twenty whose median is logged


def run(spec: Spec, _progress: ProgressFile) -> StageResult:
    """Train for a moment in a folder of its own, and tell a step's seconds, those of cores, and a sample's tokens."""
    changes = {
        "steps": _STEPS, "log_every": 1, "held_out_samples": 0, "checkpoint_uri": "", "ema_lengths": (),
        "warmup_steps": min(_STEPS, spec.recipe.training.warmup_steps),
    }  # fmt: skip
    job = job_of(spec)
    with spec.home.trial("pace") as folder:
        trial = job.model_copy(update={"settings": job.settings.model_copy(update=changes), "work_dir": folder})
        with ray_of(spec) if job.settings.launcher == "ray" else nullcontext():
            fit_as_asked(trial)
        rows = History.read(trial.work_dir / "history.jsonl")
    timed = next((row for row in rows if "speed/measured_step_s" in row), None)
    if timed is None:
        raise VidgenError("No step could be timed", got=f"{len(rows)} rows", move="See the log of this stage")
    step_s, cpu_s = timed["speed/measured_step_s"], timed["speed/measured_step_cpu_s"]
    last = next(row for row in reversed(rows) if "speed/tokens_per_s" in row)
    tokens = round(last["speed/tokens_per_s"] / last["speed/samples_per_s"])
    facts = {
        "step_s": step_s, "step_cpu_s": cpu_s, "tokens": tokens, "release": spec.result("latents").facts["release"],
        "config": digests.of_value(job.config),
    }  # fmt: skip
    return StageResult(stage="pace", rows=(Row(name="steps", count=_STEPS, note=f"{step_s:.3g} s each"),), facts=facts)
