"""The stage `train` as a Prefect flow."""

from prefect import flow

from flows.spec import Spec, StageResult
from flows.tasks import run_stage

__all__ = ["train"]


@flow(name="train", validate_parameters=False)
def train(spec: Spec) -> StageResult:
    """Launch the stage and follow it."""
    return run_stage(spec)
