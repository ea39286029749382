"""The run that a schedule starts: what is new since the last one goes through the whole line, and nothing else does.

Its parameters are plain values, which Prefect checks before a run begins, wherever that was asked for: by the
schedule, in Prefect's page, or with `prefect deployment run`.
"""

from pathlib import Path

from prefect import flow, get_run_logger
from prefect.events import emit_event

from data_prep.losses import EMPTY_EXIT
from flows import traces
from flows.commands.launch import spec_of
from flows.pipeline import STAGE_FLOWS
from flows.spec import Spec, StageResult
from vidgen_core.errors import VidgenError

__all__ = ["EMPTY", "REFUSED", "nightly"]

# Events that automations listen for.
EMPTY = "vidgen.release.empty"
REFUSED = "vidgen.promotion.refused"


@flow(name="nightly", flow_run_name="{recipe}", log_prints=False)
def nightly(
    recipe: str,
    videos: str,
    home: str,
    changes: list[str] | None = None,
    ray: str = "",
    jobs: str = "",
) -> str:
    """Bring a home up to date with its videos.

    Args:
        recipe: file.function, see `vidgen recipes`.
        videos: Folder of videos, or a place such as s3://bucket/videos.
        home: Where everything is kept.
        changes: Changes to the recipe, such as "data.frames=9".
        ray: HOST:PORT of the Ray cluster to work on.
        jobs: Address of the Ray job server that is to run the stages, or kuberay://NAMESPACE/NAME.

    Returns:
        What came of it, in a sentence.

    """
    spec = spec_of("", recipe, videos, Path(home), changes or [], ray=ray, jobs=jobs)
    with spec.home.lock(), traces.of_run(spec):
        said = _line(spec)
    get_run_logger().info(said)
    return said


def _line(spec: Spec) -> str:
    try:
        prepared = _stage(spec, "prepare")
    except VidgenError as error:
        if error.exit_code == EMPTY_EXIT:
            _tell(EMPTY, spec, str(error))
        raise
    if (before := _last(spec, prepared)) is not None:
        return f"Nothing new: {spec.recipe.model} version {before.facts['version']} was made of the same clips."
    for stage in list(STAGE_FLOWS)[1:]:
        result = _stage(spec, stage)
    reasons = " ".join(result.facts["reasons"])
    if not result.facts["promoted"]:
        _tell(REFUSED, spec, reasons)
    return f"{spec.recipe.model} version {result.facts['version']}: {reasons}"


def _stage(spec: Spec, stage: str) -> StageResult:
    return STAGE_FLOWS[stage](spec.model_copy(update={"stage": stage}))


def _last(spec: Spec, prepared: StageResult) -> StageResult | None:
    """The last release of this run, if it was made of these clips."""
    if not spec.result_file("release").exists():
        return None
    last = spec.result("release")
    return last if last.facts.get("data") == prepared.facts["data"] else None


def _tell(event: str, spec: Spec, why: str) -> None:
    """Let automations know."""
    resource = {"prefect.resource.id": f"vidgen.model.{spec.recipe.model}", "vidgen.recipe": spec.recipe.name}
    emit_event(event, resource=resource, payload={"why": why, "home": str(spec.home_dir)})
