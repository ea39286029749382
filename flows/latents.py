"""The stage `latents` as a Prefect flow."""

from prefect import flow

from flows.spec import Spec, StageResult
from flows.tasks import run_stage

__all__ = ["latents"]


@flow(name="latents", validate_parameters=False)
def latents(spec: Spec) -> StageResult:
    """Launch the stage and follow it."""
    return run_stage(spec)
