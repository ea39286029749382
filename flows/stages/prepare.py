"""Videos to clips."""

from data_prep.prepare import prepare
from data_prep.run import RayRunner
from flows.cluster import local_ray
from flows.spec import Row, Spec, StageResult
from flows.stage import ProgressFile

__all__ = ["run"]


def run(spec: Spec, progress: ProgressFile) -> StageResult:
    """Bring the data tables up to date."""
    tables = spec.home.tables()
    with local_ray(spec.home, spec.recipe.cores):
        done = prepare(spec.videos, tables, spec.recipe.data, RayRunner(), progress=progress)
    rows = tuple(Row(name=row.name, count=row.rows, seconds=row.seconds, note=row.note) for row in done.funnel)
    rows += tuple(Row(name="NOTE", note=note) for note in done.notes)
    facts = {
        "reasons": done.reasons,
        "data": done.release.digest,
        "decoded_per_source_frame": done.decoded_per_source_frame,
    }
    return StageResult(stage="prepare", rows=rows, facts=facts)
