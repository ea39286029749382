import pyarrow as pa
import pytest

from data_prep.tables import Part, Tables, write_part
from vidgen_core.errors import VidgenError

SCHEMA = pa.schema([("clip_id", pa.string()), ("media", pa.binary())])


def part(tables, unit, rows):
    file = tables.part_file("clips", unit)
    data = [{"clip_id": row, "media": row.encode()} for row in rows]
    write_part(file, pa.Table.from_pylist(data, SCHEMA))
    return Part(unit, file, len(rows))


def test_the_digest_depends_on_the_rows_and_not_on_files_order_or_versions(tmp_path):
    one, two = Tables(tmp_path / "one"), Tables(tmp_path / "two")
    one.commit("clips", SCHEMA, [part(one, "u", ["a", "b", "c"])])
    two.commit("clips", SCHEMA, [part(two, "y", ["c"])])
    two.commit("clips", SCHEMA, [part(two, "x", ["b", "a"])])
    assert one.digest("clips") == two.digest("clips")
    two.commit("clips", SCHEMA, [part(two, "z", ["d"])])
    assert one.digest("clips") != two.digest("clips")


def test_committing_a_unit_again_changes_nothing(tmp_path):
    tables = Tables(tmp_path)
    tables.commit("clips", SCHEMA, [part(tables, "u", ["a"])])
    version = tables.version("clips")
    tables.commit("clips", SCHEMA, [part(tables, "u", ["a"])])
    assert tables.version("clips") == version
    assert tables.committed("clips") == {"u"}


def test_a_file_that_was_not_committed_is_not_in_the_table(tmp_path):
    tables = Tables(tmp_path)
    tables.commit("clips", SCHEMA, [part(tables, "u", ["a"])])
    part(tables, "killed", ["b"])
    assert tables.read("clips")["clip_id"].to_pylist() == ["a"]


def test_units_are_dropped_and_added_in_one_version(tmp_path):
    tables = Tables(tmp_path)
    tables.commit("clips", SCHEMA, [part(tables, "old", ["a"])])
    version = tables.version("clips")
    tables.commit("clips", SCHEMA, [part(tables, "new", ["b"])], drop={"old"})
    assert tables.version("clips") == version + 1
    assert tables.read("clips")["clip_id"].to_pylist() == ["b"]


def test_replacing_by_equal_content_makes_no_version(tmp_path):
    tables = Tables(tmp_path)
    rows = [{"clip_id": "b", "media": b"2"}, {"clip_id": "a", "media": b"1"}]
    tables.replace("derived", pa.Table.from_pylist(rows, SCHEMA))
    version = tables.version("derived")
    tables.replace("derived", pa.Table.from_pylist(rows[::-1], SCHEMA))
    assert tables.version("derived") == version
    tables.replace("derived", pa.Table.from_pylist(rows[:1], SCHEMA))
    assert tables.read("derived", ["clip_id"])["clip_id"].to_pylist() == ["b"]


def test_queries_see_every_table_and_a_wrong_one_is_a_sentence(tmp_path):
    tables = Tables(tmp_path)
    tables.commit("clips", SCHEMA, [part(tables, "u", ["a", "b"])])
    assert tables.query("SELECT count(*) AS n FROM clips")["n"].to_pylist() == [2]
    with pytest.raises(VidgenError, match="does not run"):
        tables.query("SELECT nothing FROM nowhere")
