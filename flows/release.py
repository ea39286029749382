"""The stage `release` as a Prefect flow."""

from prefect import flow

from flows.spec import Spec, StageResult
from flows.tasks import run_stage

__all__ = ["release"]


@flow(name="release", validate_parameters=False)
def release(spec: Spec) -> StageResult:
    """Launch the stage and follow it."""
    return run_stage(spec)
