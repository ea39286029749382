from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidgen_core.errors import VidgenError
from vidgen_core.training.columns import WRITING, BytesColumn, Stored, TensorColumn, stored_in, to_column, to_table

SHAPE, ROWS = (3, 5, 7), 50
STORED = Stored(SHAPE, np.dtype(np.float16))
TENSORS = np.random.default_rng(0).normal(size=(ROWS, *SHAPE)).astype(np.float16)

LAYOUTS = {
    "as we write": ({}, True),
    "one row group": ({"row_group_size": 1000}, True),
    "one row a group": ({"row_group_size": 1}, True),
    "page checksums": ({"write_page_checksum": True}, True),
    "newer data pages": ({"data_page_version": "2.0"}, True),
    "a page index": ({"write_page_index": True}, True),
    "statistics": ({"write_statistics": True}, True),
    "compressed": ({"compression": "zstd"}, False),
    "a dictionary": ({"use_dictionary": True}, False),
    "many pages a group": ({"data_page_size": 300, "write_batch_size": 1}, False),
    "another encoding": ({"column_encoding": {"latent": "BYTE_STREAM_SPLIT"}}, False),
}


def files_of(folder, table, **options):
    """The rows over three files of unequal length."""
    files = []
    for number, (start, stop) in enumerate(((0, 17), (17, 18), (18, ROWS))):
        files.append(folder / f"{number}.parquet")
        pq.write_table(table.slice(start, stop - start), files[-1], **{**WRITING, **options})
    return files


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_tensors_and_only_plain_ones_are_read_directly(tmp_path, layout):
    options, direct = LAYOUTS[layout]
    files = files_of(tmp_path, to_table({"latent": to_column(TENSORS)}, STORED), **options)
    column = TensorColumn(files, "latent", stored_in(files[0]))
    rows = np.random.default_rng(1).permutation(ROWS).tolist()
    assert column.gather(rows).tobytes() == TENSORS[rows].tobytes()
    # A group of one row has one page whatever the page size.
    assert (column.values.direct_share == 1) == direct
    assert len(column) == ROWS


def test_tensors_that_may_be_null_are_read_by_the_decoder(tmp_path):
    table = pa.table({"latent": to_column(TENSORS)}).replace_schema_metadata(to_table({}, STORED).schema.metadata)
    files = files_of(tmp_path, table)
    column = TensorColumn(files, "latent", STORED)
    assert column.values.direct_share == 0
    assert column.gather([3, 40]).tobytes() == TENSORS[[3, 40]].tobytes()


def test_a_missing_tensor_is_an_error_and_not_a_zero(tmp_path):
    values = [None if row == 20 else TENSORS[row].tobytes() for row in range(ROWS)]
    files = files_of(tmp_path, pa.table({"latent": pa.array(values, pa.binary(STORED.width_bytes))}))
    column = TensorColumn(files, "latent", STORED)
    assert column.gather([19]).tobytes() == TENSORS[19].tobytes()
    with pytest.raises(VidgenError, match="missing"):
        column.gather([20])


def test_bytes_of_any_length_are_read_in_any_order(tmp_path):
    values = [bytes([row]) * row for row in range(ROWS)]
    files = files_of(tmp_path, pa.table({"media": pa.array(values, pa.binary())}), compression="snappy")
    column = BytesColumn(files, "media")
    assert [column.value(row) for row in (49, 0, 17, 18, 5)] == [values[row] for row in (49, 0, 17, 18, 5)]


def test_a_file_without_the_column_is_named_with_the_columns_it_has(tmp_path):
    files = files_of(tmp_path, to_table({"latent": to_column(TENSORS)}, STORED))
    with pytest.raises(VidgenError, match="latent"):
        BytesColumn(files, "latents")


def test_a_file_that_does_not_say_its_shape_is_an_error(tmp_path):
    files = files_of(tmp_path, pa.table({"latent": to_column(TENSORS)}))
    with pytest.raises(VidgenError, match="does not say"):
        stored_in(files[0])


def cut_short(file, share):
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])


@pytest.mark.parametrize("harm", ["missing", "empty", "cut short", "no Parquet"])
def test_a_damaged_shard_is_named_with_the_next_move(tmp_path, harm):
    files = files_of(tmp_path, to_table({"latent": to_column(TENSORS)}, STORED))
    if harm == "missing":
        files[1].unlink()
    else:
        files[1].write_bytes({"empty": b"", "cut short": files[1].read_bytes()[:200], "no Parquet": b"x" * 999}[harm])
    with pytest.raises(VidgenError, match=r"1\.parquet is missing or damaged.*vidgen latents"):
        TensorColumn(files, "latent", STORED)


def test_a_shard_that_is_cut_short_or_lost_while_it_is_open_is_named_too(tmp_path):
    files = files_of(tmp_path, to_table({"latent": to_column(TENSORS)}, STORED))
    column = TensorColumn(files, "latent", STORED)
    column.gather([0])
    cut_short(files[0], 0.1)
    files[2].unlink()
    assert column.gather([17]).tobytes() == TENSORS[[17]].tobytes()
    with pytest.raises(VidgenError, match=r"0\.parquet is missing or damaged.*ends within row 16"):
        column.gather([16])
    with pytest.raises(VidgenError, match=r"2\.parquet is missing or damaged"):
        column.gather([40])


def test_a_damaged_page_that_must_be_decoded_is_named_too(tmp_path):
    options = {"compression": "zstd", "write_page_checksum": True}
    files = files_of(tmp_path, to_table({"latent": to_column(TENSORS)}, STORED), **options)
    column = TensorColumn(files, "latent", STORED)
    harmed = bytearray(files[0].read_bytes())
    harmed[100:400] = bytes(300)
    files[0].write_bytes(harmed)
    with pytest.raises(VidgenError, match=r"0\.parquet is missing or damaged"):
        column.gather([0])


def test_threads_read_the_same_values(tmp_path):
    for options in ({}, {"compression": "zstd"}):
        files = files_of(tmp_path, to_table({"latent": to_column(TENSORS)}, STORED), **options)
        column = TensorColumn(files, "latent", STORED)
        batches = [np.random.default_rng(seed).permutation(ROWS).tolist() for seed in range(40)]
        with ThreadPoolExecutor(4) as pool:
            read = list(pool.map(column.gather, batches))
        assert all(one.tobytes() == TENSORS[rows].tobytes() for one, rows in zip(read, batches, strict=True))
