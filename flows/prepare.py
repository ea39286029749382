"""The stage `prepare` as a Prefect flow."""

from prefect import flow

from flows.spec import Spec, StageResult
from flows.tasks import run_stage

__all__ = ["prepare"]


@flow(name="prepare", validate_parameters=False)
def prepare(spec: Spec) -> StageResult:
    """Launch the stage and follow it."""
    return run_stage(spec)
