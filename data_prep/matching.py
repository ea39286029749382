"""Scores that read captions where a captioner writes them: spans that pass all else are captioned, then matched.

Without a captioner such a scorer looks at all spans, as the others do. With one, its scores are in `caption_scores`, of
the caption that comes first; its rules are asked last, of the spans that have one.
"""

from collections.abc import Callable

import pyarrow as pa

from data_prep import losses
from data_prep.captioning import Captioned
from data_prep.scoring import CAPTION_SCORES, SCORES, Round, columns, readers_of_captions, scorers, with_scores
from data_prep.select import RULES, Select, judge, resolve
from data_prep.settings import DataSettings
from data_prep.tables import Tables

__all__ = ["deferred", "matched", "rounds", "without_rules"]

_SAID = ["clip_id", "caption", "caption_origin"]


def rounds(settings: DataSettings) -> tuple[Round, Round]:
    """Which scorers look at all spans, and which at captioned ones."""
    later = readers_of_captions() if settings.captioner.named else frozenset()
    return Round(SCORES, scorers() - later, "score"), Round(CAPTION_SCORES, later, "match")


def deferred(settings: DataSettings) -> frozenset[str]:
    """The rules that are asked once there are captions."""
    own = columns(rounds(settings)[1].scorers)
    return frozenset(rule.name for rule in RULES if rule.score in own)


def without_rules(select: Select, names: frozenset[str]) -> Select:
    """A selection with some rules off."""
    shares = {name: share for name, share in select.drop_share.items() if name not in names}
    return select.model_copy(update={**dict.fromkeys(names), "drop_share": shares})


def matched(
    kept: pa.Table, said: Captioned, tables: Tables, settings: DataSettings, score: Callable[[pa.Table, Round], None]
) -> tuple[pa.Table, pa.Table, dict[str, float | None]]:
    """Score captioned spans with their first captions, and ask the rules that waited for it.

    Returns:
        The spans that pass, rows of `rejects` for the others, and the thresholds of these rules as numbers.

    """
    later, asked = rounds(settings)[1], deferred(settings)
    heard = pa.array([said.of(span)[0]["caption"] for span in kept.select(_SAID).to_pylist()], pa.string())
    place = kept.column_names.index("caption")
    score(kept.set_column(place, "caption", heard), later)
    kept = with_scores(kept, tables.read(CAPTION_SCORES), later.scorers)
    others = frozenset(rule.name for rule in RULES) - asked
    only = without_rules(settings.select, others).model_copy(update={"need_caption": False, "licenses": ()})
    select = resolve(kept, only)
    verdicts = judge(kept, select)
    thresholds = {name: getattr(select, name) for name in asked}
    return kept.filter(pa.array(verdicts.kept)), losses.dropped_spans(kept, verdicts), thresholds
