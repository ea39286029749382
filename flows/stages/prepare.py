"""Videos to clips."""

from data_prep.prepare import prepare
from flows.cluster import ray_of
from flows.spec import Row, Spec, StageResult
from flows.stage import ProgressFile

__all__ = ["run"]


def run(spec: Spec, progress: ProgressFile) -> StageResult:
    """Bring the data tables up to date."""
    tables = spec.home.tables()
    with ray_of(spec) as runner:
        done = prepare(spec.videos, tables, spec.recipe.data, runner, progress=progress)
    rows = tuple(Row(name=row.name, count=row.rows, seconds=row.seconds, note=row.note) for row in done.funnel)
    rows += tuple(Row(name="NOTE", note=note) for note in done.notes)
    facts = {
        "reasons": done.reasons,
        "data": done.release.digest,
        "decoded_per_source_frame": done.decoded_per_source_frame,
    }
    return StageResult(stage="prepare", rows=rows, facts=facts)
