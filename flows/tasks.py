"""The Prefect task that launches a stage, and the artifacts that it leaves."""

from collections.abc import Callable
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from rich.console import Console

from flows import traces
from flows.failures import StageCrashedError
from flows.launch import kuberay, local, ray_jobs
from flows.show import Show
from flows.spec import Spec, StageResult

__all__ = ["run_stage"]

# Libraries crash, and the kernel ends who takes the last memory, which others may have given back by then.
BACKOFF_S = [10.0, 60.0]


def _is_worth_another_try(_task: Any, _run: Any, state: State[Any]) -> bool:
    """A mistake stays one and a bug comes again; a process that was ended goes on from what it has left."""
    error = state.result(raise_on_failure=False)
    if not (isinstance(error, StageCrashedError) and error.died):
        return False
    Console(stderr=True, highlight=False).print(f"{error} It is tried up to {len(BACKOFF_S) + 1} times.", markup=False)
    return True


@task(
    name="stage",
    task_run_name="{spec.stage}",
    retries=len(BACKOFF_S),
    retry_delay_seconds=BACKOFF_S,
    retry_condition_fn=_is_worth_another_try,
)
def run_stage(spec: Spec) -> StageResult:
    """Run a stage in a child process, as a job of a Ray cluster, or as a RayJob of Kubernetes, to its end."""
    with traces.of_stage(spec) as span, Show.stage(spec.stage) as show:
        result = _launcher(spec)(spec, show)
        traces.tell(span, result)
        show.done(result)
    key = f"{spec.recipe.model.lower().replace('_', '-').replace('.', '-')}-{spec.stage}"
    create_table_artifact([row.model_dump() for row in result.rows], key=key, description=f"Rows of {spec.stage}")
    if "page" in result.facts:
        links = "".join(
            f"\n\n[{what} in MLflow]({address})" for what, address in result.facts.get("mlflow", {}).items()
        )
        create_markdown_artifact(f"The sample page: `{result.facts['page']}`{links}", key=f"{key}-page")
    return result


def _launcher(spec: Spec) -> Callable[[Spec, Show], StageResult]:
    if not spec.jobs:
        return local.run
    return kuberay.run if spec.jobs.startswith(f"{kuberay.SCHEME}://") else ray_jobs.run
