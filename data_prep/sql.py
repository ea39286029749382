"""DuckDB over tables in memory and over Parquet files, of which it reads many small ones fast."""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from vidgen_core.errors import VidgenError

__all__ = ["ask", "close_the_door", "identifier", "parquet", "question", "read_files", "told_by_files"]

# Kinds of statements that only read.
_QUESTIONS = ("SELECT", "EXPLAIN")
_THREADS = 4
# Below, starting DuckDB takes longer than what it saves.
_MANY_FILES = 64


def ask(sql: str, **tables: pa.Table) -> pa.Table:
    """A SQL question over tables in memory, by their names."""
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        answer = connection.sql(sql)
        assert answer is not None, "not a question"
        return answer.to_arrow_table()


def question(connection: duckdb.DuckDBPyConnection, sql: str, views: Sequence[str]) -> pa.Table:
    """What a user asks of some views.

    Raises:
        VidgenError: It is no single question, or does not run.

    """
    try:
        kinds = [statement.type.name for statement in connection.extract_statements(sql)]
        if len(kinds) != 1 or kinds[0] not in _QUESTIONS:
            raise VidgenError(
                "A query is one question, which changes nothing", got=sql, allowed="SELECT, FROM, DESCRIBE"
            )
        answer = connection.sql(sql)
        return pa.table({}) if answer is None else answer.to_arrow_table()
    except duckdb.Error as error:
        there = ", ".join(views) or "none yet, run vidgen prepare first"
        first_line = str(error).splitlines()[0]
        raise VidgenError(f"The query does not run: {first_line}", got=sql, move=f"Tables: {there}") from error


def close_the_door(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """From now on no file outside of a folder can be read."""
    # Views name files as `parquet` spells them, and DuckDB compares the spelling.
    connection.execute(f"SET allowed_directories = [{_text(str(root))}, {_text(_no_pattern(root))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def join(connection: duckdb.DuckDBPyConnection, view: str, own: str, other: str, columns: Sequence[str]) -> None:
    """Make a view of another one's rows with columns of a third, which the first of its columns joins.

    Args:
        connection: Where the views are.
        view: The name of the new one.
        own: Whose rows.
        other: Whose columns; "" where it is not there, and its columns, all of them texts, are null.
        columns: Of the third.

    """
    key, *names = map(identifier, columns)
    told = ", ".join(f"told.{name}" if other else f"CAST(NULL AS VARCHAR) AS {name}" for name in names)
    rows = f"{identifier(own)} AS own" + (f" LEFT JOIN {identifier(other)} AS told USING ({key})" if other else "")
    connection.execute(f"CREATE VIEW {identifier(view)} AS SELECT own.*, {told} FROM {rows}")


def parquet(files: Sequence[Path], options: str = "") -> str:
    """Rows of files in their order, as it stands after FROM.

    Names are not patterns, and folders that are called `key=value` are no columns.
    """
    listed = ", ".join(_text(_no_pattern(file)) for file in files)
    return f"read_parquet([{listed}], hive_partitioning = false{options})"


def read_files(files: Sequence[Path], columns: Sequence[str] | None = None) -> pa.Table | None:
    """Columns of many small files of one schema, in the order of the files; None where Arrow does it as well.

    A file costs DuckDB half of what it costs Arrow, and its threads wait less for each other. What has media or tensors
    stays with Arrow, which does not copy them.
    """
    if len(files) < _MANY_FILES:
        return None
    schema = pq.read_schema(files[0])
    if not set(columns or ()) <= set(schema.names):
        return None
    schema = pa.schema([schema.field(name) for name in columns or schema.names])
    if not all(map(_is_plain, schema.types)):
        return None
    named = ", ".join(map(identifier, schema.names))
    with duckdb.connect(config={"threads": _THREADS}) as connection:
        return connection.sql(f"SELECT {named} FROM {parquet(files)}").to_arrow_table().cast(schema)


def told_by_files(files: Sequence[Path], column: str) -> dict[Path, str]:
    """What a column says in each file that has rows, of which all say the same; in the order of the names."""
    if not files:
        return {}
    rows = parquet(files, ", filename = true")
    asked = f"SELECT filename, any_value({identifier(column)}) FROM {rows} GROUP BY 1 ORDER BY 1"
    with duckdb.connect(config={"threads": _THREADS}) as connection:
        return {Path(file): value for file, value in connection.execute(asked).fetchall()}


def identifier(name: str) -> str:
    """A column's or a view's name, quoted."""
    return '"' + name.replace('"', '""') + '"'


def _is_plain(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_float64(kind)
    )


def _no_pattern(path: Path) -> str:
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in str(path))


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
