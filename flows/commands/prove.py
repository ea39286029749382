"""`vidgen train --prove-resume`: kill the training, go on, and compare with a run that nobody killed."""

import json
from pathlib import Path

from flows.commands.text import aligned
from flows.home import Home
from flows.spec import Spec
from flows.stage import write_value
from flows.stages.train import job_of
from vidgen_core.training.prove import Proof, prove

__all__ = ["kept_proof", "prove_resume"]


def prove_resume(spec: Spec, *, as_json: bool) -> tuple[str, bool]:
    """What was found, as text or JSON, and whether the proof holds. The run itself is not touched.

    The proof is kept beside the training, where the gate reads it.

    Raises:
        VidgenError: There are no latents to learn from, another proof is made in the home, or a worker failed.

    """
    job = job_of(spec)
    with spec.home.lock("proof"), spec.home.trial("proof") as folder:
        proof = prove(job, folder)
    write_value(_file(spec.home, job.work_dir.name), proof)
    text = proof.model_dump_json(indent=1) if as_json else _told(proof)
    return text, proof.passed


def kept_proof(home: Home, job: str) -> Proof | None:
    """The latest proof of a training job, if there is one."""
    file = _file(home, job)
    if not file.exists():
        return None
    told = json.loads(file.read_text())
    # It follows from the rest.
    del told["passed"]
    return Proof.model_validate(told)


def _file(home: Home, job: str) -> Path:
    return home.training_dir / f"{job}.proof.json"


def _told(proof: Proof) -> str:
    rows: list[tuple[str | int, ...]] = [
        ("workers", "resumed from", "samples", "losses", "weights", "loss error", "weight error", "")
    ]
    for case in proof.cases:
        before, after = case.workers
        bits = ["equal" if equal else "differ" for equal in (case.losses_equal, case.weights_equal)]
        samples = "equal" if case.samples_equal else "differ"
        errors = f"{case.loss_error:.1e}", f"{case.weight_error:.1e}"
        passed = "pass" if case.passed else "FAIL"
        rows.append((f"{before} -> {after}", case.resumed_from, samples, *bits, *errors, passed))
    head = f"{proof.steps} steps, workers killed after step {proof.killed_at}; unbroken weights {proof.digest[:12]}"
    verdict = "pass: this run resumes" if proof.passed else "FAIL: this run does not resume"
    return "\n".join([head, aligned(rows), *proof.notes, verdict])
