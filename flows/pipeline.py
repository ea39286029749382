"""The whole line as one Prefect flow."""

from prefect import flow

from flows import traces
from flows.evaluate import evaluate
from flows.latents import latents
from flows.prepare import prepare
from flows.release import release
from flows.spec import Spec, StageResult
from flows.train import train

__all__ = ["STAGE_FLOWS", "pipeline"]

STAGE_FLOWS = {"prepare": prepare, "latents": latents, "train": train, "evaluate": evaluate, "release": release}


@flow(name="pipeline", validate_parameters=False)
def pipeline(spec: Spec) -> list[StageResult]:
    """From videos to a promoted version; each stage does only what is not done yet."""
    with traces.of_run(spec):
        return [stage_flow(spec.model_copy(update={"stage": stage})) for stage, stage_flow in STAGE_FLOWS.items()]
