import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import row_digests
from data_prep.parts import write_part, write_rows
from data_prep.tables import Part, Tables
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


ROWS = pa.table(
    {
        "name": pa.array(["a", "ab", None, "", "b"]),
        "next": pa.array(["bc", "c", "x", None, None]),
        "number": pa.array([1, 2, None, 0, -1], pa.int32()),
        "share": pa.array([0.5, None, 0.0, -1.5, 1e300]),
        "yes": pa.array([True, False, None, True, False]),
        "media": pa.array([b"", b"\0", None, b"\0\0", b"x" * 99], pa.binary()),
        "latent": pa.array([b"1234", b"5678", b"\0\0\0\0", None, b"abcd"], pa.binary(4)),
    }
)


def test_every_value_null_and_border_between_values_is_in_a_rows_digest():
    right = row_digests.of_rows(ROWS).tobytes()
    assert len({right[at : at + 32] for at in range(0, len(right), 32)}) == len(ROWS)
    for place, name in enumerate(ROWS.column_names):
        values = ROWS[name].to_pylist()
        kind = ROWS.schema.field(name).type
        for row in range(len(ROWS)):
            other = next(value for value in [*values, None] if value != values[row])
            changed = pa.array([*values[:row], other, *values[row + 1 :]], kind)
            digests = row_digests.of_rows(ROWS.set_column(place, name, changed)).tobytes()
            assert [digests[k * 32 : k * 32 + 32] == right[k * 32 : k * 32 + 32] for k in range(5)].count(False) == 1
    # Neither the order of columns nor slices nor how wide numbers are stored matter.
    wide = ROWS.set_column(2, "number", ROWS["number"].cast(pa.int64()))
    assert row_digests.of_rows(wide.select(ROWS.column_names[::-1])).tobytes() == right
    assert row_digests.of_rows(ROWS.slice(2)).tobytes() == right[64:]
    moved = pa.table({"name": ["ab"], "next": ["c"]}), pa.table({"name": ["a"], "next": ["bc"]})
    assert row_digests.of_table(moved[0]) != row_digests.of_table(moved[1])


def test_what_files_keep_of_their_rows_is_what_their_rows_are(tmp_path, monkeypatch):
    media = [{"clip_id": f"c{number}", "media": bytes([number]) * 300} for number in range(50)]
    monkeypatch.setattr("data_prep.parts._ROW_GROUP_BYTES", 4_000)
    assert write_rows(tmp_path / "rows.parquet", SCHEMA, iter(media)) == 50
    assert pq.read_metadata(tmp_path / "rows.parquet").num_row_groups > 2
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == media
    write_part(tmp_path / "part.parquet", pa.Table.from_pylist(media, SCHEMA), row_group_size=7)
    # Written by anybody else, without what ours keep in their footers.
    pq.write_table(pa.Table.from_pylist(media[::-1], SCHEMA), tmp_path / "plain.parquet")
    assert len({row_digests.of_files([tmp_path / f"{name}.parquet"]) for name in ("rows", "part", "plain")}) == 1
    assert write_rows(tmp_path / "none.parquet", SCHEMA, []) == 0
    assert row_digests.of_files([tmp_path / "none.parquet"]) == row_digests.of_files([])


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


@pytest.mark.parametrize("folder", ["part=1", "a[1]*?'b"])
def test_many_files_are_read_as_each_of_them_is_whatever_their_folder_is_called(tmp_path, folder):
    tables, kinds = Tables(tmp_path / folder), ROWS.drop_columns(["media", "latent"])
    parts = [pa.concat_tables([kinds.slice(start, 3)] * (start + 1)) for start in (4, 0, 1, 2, 3) * 14]
    committed = []
    for number, rows in enumerate(parts):
        file = tables.part_file("kinds", f"{number:03d}")
        write_part(file, rows)
        committed.append(Part(f"{number:03d}", file, len(rows)))
    tables.commit("kinds", kinds.schema, committed)
    everything = pa.concat_tables(parts)
    assert tables.read("kinds").equals(everything)
    assert tables.read("kinds", ["yes", "next"]).equals(everything.select(["yes", "next"]))
    assert tables.query("FROM kinds").column_names == kinds.column_names
    assert len(tables.holding("kinds", "name", "ab")) == sum("ab" in rows["name"].to_pylist() for rows in parts)


def test_queries_see_every_table_and_a_wrong_one_is_a_sentence(tmp_path):
    tables = Tables(tmp_path)
    tables.commit("clips", SCHEMA, [part(tables, "u", ["a", "b"])])
    assert tables.query("SELECT count(*) AS n FROM clips")["n"].to_pylist() == [2]
    with pytest.raises(VidgenError, match="does not run"):
        tables.query("SELECT nothing FROM nowhere")
