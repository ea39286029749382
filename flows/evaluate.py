"""The stage `evaluate` as a Prefect flow."""

from prefect import flow

from flows.spec import Spec, StageResult
from flows.tasks import run_stage

__all__ = ["evaluate"]


@flow(name="evaluate", validate_parameters=False)
def evaluate(spec: Spec) -> StageResult:
    """Launch the stage and follow it."""
    return run_stage(spec)
