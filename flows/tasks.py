"""The Prefect task that launches a stage, and the artifacts that it leaves."""

from collections.abc import Callable
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State

from flows.failures import StageCrashedError
from flows.launch import kuberay, local, ray_jobs
from flows.show import Show
from flows.spec import Spec, StageResult

__all__ = ["run_stage"]

RETRY_DELAY_S = 2.0


def _is_worth_another_try(_task: Any, _run: Any, state: State[Any]) -> bool:
    """A mistake stays one, and a crash of ours comes again; an abort of a library may not."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageCrashedError) and error.by_library


@task(
    name="stage",
    task_run_name="{spec.stage}",
    retries=1,
    retry_delay_seconds=RETRY_DELAY_S,
    retry_condition_fn=_is_worth_another_try,
)
def run_stage(spec: Spec) -> StageResult:
    """Run a stage in a child process, as a job of a Ray cluster, or as a RayJob of Kubernetes, to its end."""
    with Show.stage(spec.stage) as show:
        result = _launcher(spec)(spec, show)
        show.done(result)
    key = f"{spec.recipe.model.lower().replace('_', '-').replace('.', '-')}-{spec.stage}"
    create_table_artifact([row.model_dump() for row in result.rows], key=key, description=f"Rows of {spec.stage}")
    if "page" in result.facts:
        create_markdown_artifact(f"The sample page: `{result.facts['page']}`", key=f"{key}-page")
    return result


def _launcher(spec: Spec) -> Callable[[Spec, Show], StageResult]:
    if not spec.jobs:
        return local.run
    return kuberay.run if spec.jobs.startswith(f"{kuberay.SCHEME}://") else ray_jobs.run
