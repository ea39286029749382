"""Families compared, as a Prefect flow."""

from prefect import flow

from flows.comparison import SHARED, Comparison, Entry, entry_of, is_evaluated, is_of, named, shared
from flows.failures import StageCrashedError
from flows.pipeline import STAGE_FLOWS
from flows.recipes.recipe import FamilyChoice
from flows.spec import StageResult
from flows.tasks import run_stage
from flows.teacher import taught, teacher_of
from vidgen_core.errors import VidgenError

__all__ = ["compare"]


@flow(name="compare", validate_parameters=False)
def compare(comparison: Comparison) -> list[Entry]:
    """Clips and latents once, then one family after the other; one that cannot be trained is a row that says why.

    Those that learn from a teacher come last, and learn from what was trained here where that is their teacher.
    """
    answers = tuple(STAGE_FLOWS[stage](comparison.spec(stage)) for stage in SHARED)
    rows: list[tuple[FamilyChoice, Entry]] = []
    for family in sorted(comparison.families, key=lambda one: teacher_of(one) is not None):
        teacher = next((row for other, row in rows if row.model_dir and teacher_of(family) == other.whole()), None)
        try:
            row = _row(comparison, family if teacher is None else taught(family, teacher.model_dir), answers)
            row = row.model_copy(update={"teacher": "" if teacher is None else teacher.family})
        except (VidgenError, StageCrashedError) as error:
            row = Entry(family=named(family), failed=str(error))
        rows.append((family, row))
    return [row for family in comparison.families for other, row in rows if other == family]


def _row(comparison: Comparison, family: FamilyChoice, answers: tuple[StageResult, ...]) -> Entry:
    """One family to its row, from where it stopped."""
    release = answers[-1].facts["release"]
    paced = shared(comparison.spec("pace", family), answers)
    if not is_of(paced, release):
        run_stage(paced)
    steps = comparison.steps(paced.result("pace"))
    spec = shared(comparison.spec("train", family, steps=steps), answers)
    if not is_evaluated(spec, release):
        for stage in ("train", "evaluate"):
            STAGE_FLOWS[stage](spec.model_copy(update={"stage": stage}))
    return entry_of(spec)
