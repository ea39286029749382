"""What commands print: text, and rows as a table for people, comma-separated values or JSON for programs."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["FORMATS", "aligned", "rows_as", "say"]

FORMATS = ("table", "csv", "json")
_WIDEST = 72


def rows_as(kind: str, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows under their names in one of `FORMATS`; bytes are told by their length."""
    plain = [[_plain(value) for value in row] for row in rows]
    if kind == "json":
        return json.dumps([dict(zip(names, row, strict=True)) for row in plain], default=str, indent=1)
    if kind == "csv":
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([names, *plain])
        return stream.getvalue().rstrip("\n")
    return aligned([names, *plain])


def aligned(rows: Sequence[Sequence[Any]]) -> str:
    """Columns side by side; long texts are cut."""
    texts = [[_short(value) for value in row] for row in rows]
    numeric = [all(isinstance(row[place], int | float | None) for row in rows[1:]) for place in range(len(rows[0]))]
    widths = [max(len(row[place]) for row in texts) for place in range(len(rows[0]))]
    lines = []
    for row in texts:
        cells = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def say(text: str) -> None:
    """Print a text as it is: not wrapped, not colored."""
    sys.stdout.write(f"{text}\n")


def _plain(value: Any) -> Any:
    return f"{len(value)} bytes" if isinstance(value, bytes) else value


def _short(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
