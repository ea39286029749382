"""Numbers and rows as the pages show them: digits that line up, bars, the funnel and the reasons."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vidgen_core.evaluation import wording

__all__ = ["NOT_MEASURED", "aligned", "bars", "decimals_of", "funnel", "measured", "number", "percent", "rejects"]

NOT_MEASURED = "not measured"
_FIGURES = 4  # significant ones
_OF_FILES = ("files", "sources committed", "sources rejected")  # the funnel's steps before clips are counted


def measured(value: float | None) -> bool:
    """Whether there is a number."""
    return value is not None and math.isfinite(value)


def decimals_of(values: Iterable[float | None]) -> int:
    """Digits after the point that give the largest of the values its significant figures."""
    sizes = [abs(value) for value in values if value is not None and math.isfinite(value) and value]
    return min(8, max(0, _FIGURES - 1 - math.floor(math.log10(max(sizes))))) if sizes else _FIGURES - 1


def number(value: float | None, decimals: int | None = None) -> str:
    """A number for people, with a true minus sign."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    return f"{value:,.{decimals_of([value]) if decimals is None else decimals}f}".replace("-", "\N{MINUS SIGN}")


def percent(share: float | None, decimals: int = 1) -> str:
    """A share as a percentage."""
    return NOT_MEASURED if not measured(share) else f"{number(100 * (share or 0.0), decimals)}\N{NO-BREAK SPACE}%"


def aligned(numbers: Sequence[str]) -> list[tuple[str, str, int]]:
    """A column as (before the point, the point and behind, widest such part in characters)."""
    parts = [number.partition(".") for number in numbers]
    widest = max((len(point + behind) for _, point, behind in parts), default=0)
    return [(before, point + behind, 0 if before == NOT_MEASURED else widest) for before, point, behind in parts]


def bars(rows: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """Rows with their share of the largest, in percent."""
    most = max((value for _, value in rows if measured(value)), default=0) or 1
    return [
        {"name": name, "value": number(value, 1), "share": round(100 * value / most, 1) if measured(value) else 0}
        for name, value in rows
    ]


def funnel(rows: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """Steps of the funnel; files and candidate clips are counted apart, so each has the scale of its own kind."""
    most = {True: 1, False: 1}
    for name, count in rows:
        most[name in _OF_FILES] = max(most[name in _OF_FILES], count)
    steps = []
    for place, (name, count) in enumerate(rows):
        of_files = name in _OF_FILES
        title, meaning = wording.FUNNEL.get(name, (wording.named(name), ""))
        steps.append(
            {
                "title": title,
                "meaning": meaning,
                "count": f"{count:,}",
                "share": round(100 * count / most[of_files], 1),
                "lost": name.endswith(("rejected", "dropped")),
                "apart": place > 0 and (rows[place - 1][0] in _OF_FILES) != of_files,
            }
        )
    return steps


def rejects(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Reasons with their counts and sentences, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    drawn = bars([(reason, float(count)) for reason, count in ordered])
    return [
        {"reason": reason, "meaning": wording.REASONS.get(reason, ""), "count": f"{count:,}", "share": bar["share"]}
        for (reason, count), bar in zip(ordered, drawn, strict=True)
    ]
