"""Families compared, as a Prefect flow."""

from prefect import flow

from flows.comparison import SHARED, Comparison, Entry, entry_of, is_evaluated, shared
from flows.failures import StageCrashedError
from flows.pipeline import STAGE_FLOWS
from flows.recipes.recipe import FamilyChoice
from flows.spec import StageResult
from flows.tasks import run_stage
from vidgen_core.errors import VidgenError

__all__ = ["compare"]


@flow(name="compare", validate_parameters=False)
def compare(comparison: Comparison) -> list[Entry]:
    """Clips and latents once, then one family after the other; one that cannot be trained is a row that says why."""
    answers = tuple(STAGE_FLOWS[stage](comparison.spec(stage)) for stage in SHARED)
    entries = []
    for family in comparison.families:
        name = f"{family.name}:{family.size}" if family.size else family.name
        try:
            entries.append(_row(comparison, family, name, answers))
        except (VidgenError, StageCrashedError) as error:
            entries.append(Entry(family=name, failed=str(error)))
    return entries


def _row(comparison: Comparison, family: FamilyChoice, name: str, answers: tuple[StageResult, ...]) -> Entry:
    """One family to its row, from where it stopped."""
    release = answers[-1].facts["release"]
    paced = shared(comparison.spec("pace", family), answers)
    if not paced.result_file("pace").exists() or paced.result("pace").facts["release"] != release:
        run_stage(paced)
    steps = comparison.steps(paced.result("pace"))
    spec = shared(comparison.spec("train", family, steps=steps), answers)
    if not is_evaluated(spec, release):
        for stage in ("train", "evaluate"):
            STAGE_FLOWS[stage](spec.model_copy(update={"stage": stage}))
    return entry_of(spec, name)
