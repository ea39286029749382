"""Scores of clips as columns that a generator is conditioned on.

Wang et al. 2024, "Koala-36M" (arXiv:2410.08260): a model that is told the scores of what it learns from gains more than
one that learns from what a filter left. A score that a clip does not have stays null.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from data_prep.prepare import candidates
from data_prep.settings import DataSettings
from data_prep.tables import Tables
from vidgen_core import digests
from vidgen_core.scalars import Scalar

__all__ = ["spread", "write_conditions"]


def write_conditions(tables: Tables, names: Sequence[str], settings: DataSettings) -> str:
    """Bring the table with these scores of all clips up to date; its name."""
    table = f"conditions/{digests.of_value(list(names), 12)}"
    clips = tables.read("clips", ["clip_id", "source_id", "split"])
    spans, _ = candidates(tables, settings)
    place = pc.index_in(clips["clip_id"], value_set=spans["clip_id"].combine_chunks())
    for name in names:
        clips = clips.append_column(name, pc.cast(spans[name], pa.float64()).take(place))
    tables.replace(table, clips)
    return table


def spread(tables: Tables, table: str, names: Sequence[str]) -> tuple[Scalar, ...]:
    """How the scores are spread over the clips to learn from.

    Raises:
        VidgenError: No clip to learn from has one of them.

    """
    rows = tables.read(table)
    own = rows.filter(pc.equal(rows["split"], "train"))
    return tuple(Scalar.of(name, own[name].to_numpy(zero_copy_only=False)) for name in names)
