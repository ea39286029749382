"""`vidgen query`: SQL over the tables."""

from flows.commands.text import FORMATS, rows_as
from flows.home import Home
from vidgen_core.errors import VidgenError, did_you_mean

__all__ = ["query"]


def query(home: Home, sql: str, kind: str) -> str:
    """The answer as text.

    Raises:
        VidgenError: There is no such format, or the query does not run.

    """
    if kind not in FORMATS:
        raise VidgenError(
            "There is no such format", got=kind, allowed=", ".join(FORMATS), move=did_you_mean(kind, FORMATS)
        )
    answer = home.tables().query(sql)
    rows = list(zip(*(column.to_pylist() for column in answer.columns), strict=True))
    return rows_as(kind, answer.column_names, rows)
