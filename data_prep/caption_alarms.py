"""Alarms over captions: one caption on many clips, and captions that fit their clips no better than another clip's.

The second looks at the end of the line, not at its middle: the pictures of some captioned clips are taken from their
sources anew, and the captioner is asked which of two captions from the table describes them, the clip's own or that of
a clip of another source. Every batch of captions (what one run asked for) is sampled once and keeps its result in
`caption_checks`, so that an alarm does not fall silent because the command is given again.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from data_prep.asking import PLACE, Seen, Work, module, over_clips
from data_prep.captioners._contract import Captioner, CaptionerSettings, Said
from data_prep.ledger import Ledger, Row
from data_prep.sources import Source
from data_prep.tables import Tables
from data_prep.units import Unit, Workshop
from vidgen_core import digests
from vidgen_core.errors import VidgenError

__all__ = ["Watch", "better_than_chance", "checks", "ring"]

CHECKS = "caption_checks"
# Over fewer captions only a majority is an alarm, and over still fewer a share, or a comparison, says nothing.
_MANY, _FEWEST = 32, 8
_MAJORITY = 0.5
_EARLY_CAPTIONS, _EARLY_SOURCES = 128, 4
_CHANCE = 0.05
_RIVALS_LOOKED_AT = 64
_MOVE = "Look at them and at the prompt; where all is well, go on with --set data.captioner.alarm=note"


class Watch:
    """Ends a run early whose captioner says one thing of everything, before it is paid for all clips.

    Args:
        settings: What is an alarm.

    """

    def __init__(self, settings: CaptionerSettings) -> None:
        self._settings = settings
        self._said: dict[str, Counter[str]] = {}
        self._sources: set[str] = set()
        self._look_at = _EARLY_CAPTIONS

    def see(self, rows: Sequence[Row]) -> None:
        """More captions.

        Raises:
            VidgenError: More than half of very many are the same, and an alarm ends the run.

        """
        for row in rows:
            if row["caption"]:
                self._said.setdefault(row["prompt_digest"], Counter())[_plain(row["caption"])] += 1
                self._sources.add(row["source_id"])
        count = sum(said.total() for said in self._said.values())
        if count < self._look_at or len(self._sources) < _EARLY_SOURCES:
            return
        self._look_at = 2 * count
        for said in self._said.values():
            sentence = _repeated(said, max(_MAJORITY, self._settings.repeat_share))
            if sentence and self._settings.alarm == "fail":
                raise VidgenError(sentence, move=_MOVE)


def ring(
    told: Sequence[Row], spans: Sequence[Mapping[str, Any]], sources: Mapping[str, Source], shop: Workshop,
    settings: CaptionerSettings, made: Ledger,
) -> list[str]:  # fmt: skip
    """The alarms over one captioner's captions, as sentences; `made` has the comparisons.

    Raises:
        VidgenError: There is one, and the settings say that it ends the run.

    """
    useful = [row for row in told if row["caption"]]
    alarms: list[str] = []
    for prompt in sorted({row["prompt_digest"] for row in useful}):
        said = Counter(_plain(row["caption"]) for row in useful if row["prompt_digest"] == prompt)
        alarms += filter(None, [_repeated(said, settings.repeat_share)])
    strayed = sum(row["wrong_ids"] for row in told)
    note = (
        f"{strayed} answers of {settings.name} named another request and were asked for again: the server mixes them up"
    )
    if strayed and settings.server.echo == "wanted":
        alarms.append(f"{note}, and answers that name none are taken")
    if settings.pair_checks:
        alarms += _mispaired(_compared(useful, spans, sources, shop, settings, made))
    if alarms and settings.alarm == "fail":
        raise VidgenError(alarms[0], move=_MOVE)
    return alarms or ([note] if strayed else [])


def checks(tables: Tables) -> Ledger:
    """The comparisons that were made."""
    return Ledger(tables, CHECKS, lambda row: row["fits"] is not None)


def better_than_chance(right: int, count: int) -> bool:
    """Whether a coin would be right so often in fewer than one of twenty tries (one-sided binomial test)."""
    return sum(math.comb(count, k) for k in range(right, count + 1)) / 2**count <= _CHANCE


def _plain(caption: str) -> str:
    return "".join(letter for letter in caption.casefold() if letter.isalnum() or letter == " ").strip()


def _repeated(said: Counter[str], share: float) -> str | None:
    count = said.total()
    if count < _FEWEST:
        return None
    share = share if count >= _MANY else max(share, _MAJORITY)
    caption, times = said.most_common(1)[0]
    if times <= share * count:
        return None
    return f"{times} of {count} clips have the same caption, {caption[:80]!r}; {share:.0%} are allowed to"


def _mispaired(compared: Sequence[Row]) -> list[str]:
    """A sentence for each batch where nothing shows that captions fit better than others."""
    alarms = []
    for batch in sorted({row["batch"] for row in compared}):
        some = [row for row in compared if row["batch"] == batch]
        decided = [row for row in some if row["fits"] is not None]
        right = sum(row["fits"] for row in decided)
        if len(some) >= _FEWEST and not better_than_chance(right, len(decided)):
            wrong = next(row["clip_id"] for row in some if not row["fits"])
            alarms.append(
                f"The captions fit their clips no better than those of other clips: shown {len(some)} clips with their "
                f"own caption and another's, the captioner chose the own one {right} times, the other "
                f"{len(decided) - right} times (as for clip {wrong}), and could not tell of the rest"
            )
    return alarms


def _compared(
    useful: Sequence[Row], spans: Sequence[Mapping[str, Any]], sources: Mapping[str, Source], shop: Workshop,
    settings: CaptionerSettings, made: Ledger,
) -> list[Row]:  # fmt: skip
    """Rows of the comparisons wanted; those that are not in the table yet are made where their clips can be had."""
    shown = {span["clip_id"]: span for span in spans}
    digest = module(settings).digest(settings)
    wanted: dict[str, Row] = {}
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in useful:
        groups.setdefault((row["batch"], row["prompt_digest"]), []).append(row)
    for (batch, prompt), rows in groups.items():
        for row, rival in _pairs(rows, shown, settings.pair_checks):
            key = digests.of_value([digest, row["key"], row["caption"], rival], 24)
            wanted[key] = {"clip_id": row["clip_id"], "source_id": row["source_id"], "key": key,
                           "batch": f"{batch}-{prompt}", "caption": row["caption"], "rival": rival}  # fmt: skip
    have = made.rows()
    by_source: dict[str, dict[str, Any]] = {}
    for key in sorted(wanted.keys() - have.keys()):
        row = wanted[key]
        place = {name: shown[row["clip_id"]][name] for name in PLACE}
        errand = {"clip_id": row["clip_id"], "source_id": row["source_id"], **place, "asks": []}
        by_source.setdefault(row["source_id"], {}).setdefault(row["clip_id"], errand)["asks"].append(row)
    units = [
        Unit(digests.of_value([span["asks"] for span in some.values()], 32), sources[source], tuple(some.values()))
        for source, some in sorted(by_source.items())
    ]
    try:
        with closing(over_clips(units, Work(_pick, _not_seen), shop, settings)) as answers:
            for rows in answers:
                made.add(rows)
    finally:
        made.flush()
    have = made.rows()
    return [have[key] for key in wanted if key in have]


def _pairs(rows: Sequence[Row], shown: Mapping[str, Mapping[str, Any]], count: int) -> list[tuple[Row, str]]:
    """Some captions by chance, each with the words of a clip of another source, or else of another shot."""
    pool = sorted(rows, key=lambda row: digests.of_value(row["key"]))
    pairs = []
    for place, row in enumerate(pool[:count]):
        after = [pool[(place + step) % len(pool)] for step in range(1, min(len(pool), _RIVALS_LOOKED_AT))]
        others = [other for other in after if _plain(other["caption"]) != _plain(row["caption"])]
        foreign = [other for other in others if other["source_id"] != row["source_id"]]
        shot = shown[row["clip_id"]]["shot"]
        apart = [other for other in others if shown[other["clip_id"]]["shot"] != shot]
        if foreign or apart:
            pairs.append((row, (foreign or apart)[0]["caption"]))
    return pairs


def _pick(captioner: Captioner, clips: Sequence[Seen]) -> list[Row]:
    rows = []
    for span, pictures in clips:
        for ask in span["asks"]:
            chosen = captioner.pick(pictures, (ask["caption"], ask["rival"]))
            rows.append(ask | {"fits": None if chosen is None else chosen == 0})
    return rows


def _not_seen(span: Mapping[str, Any], said: Said) -> list[Row]:
    """What could not be shown in this run says nothing of the captioner, and the next run shows it."""
    return [] if said.status == "failed" else [ask | {"fits": None} for ask in span["asks"]]
