"""Laws of the ledger: what was added once is there once, the better row counts, and files stay few."""

import random

import pyarrow.parquet as pq
import pytest

from data_prep import ledger as module
from data_prep.ledger import Ledger
from data_prep.tables import SCHEMAS, Tables

NAME = "caption_checks"


def row(key, fits=None, source="s"):
    return dict.fromkeys(SCHEMAS[NAME].names) | {"key": key, "fits": fits, "source_id": source}


@pytest.fixture
def tables(tmp_path):
    return Tables(tmp_path / "tables")


@pytest.fixture
def opened(tables):
    return lambda: Ledger(tables, NAME, lambda one: one["fits"] is not None)


@pytest.mark.parametrize("seed", range(3))
def test_however_rows_came_and_whenever_it_settled_each_key_has_its_best_row(seed, tables, opened):
    chance, expected = random.Random(seed), {}
    ledger = opened()
    for _ in range(30):
        some = [row(f"k{chance.randrange(20)}", chance.choice([None, True])) for _ in range(chance.randrange(1, 5))]
        ledger.add(some)
        ledger.flush()
        for one in some:
            expected[one["key"]] = expected.get(one["key"]) or one["fits"]
        if chance.random() < 0.1:
            ledger.settle(lambda one: True)
            assert len(tables.read(NAME)) == len(expected)
        if chance.random() < 0.1:
            ledger = opened()
        assert {key: one["fits"] for key, one in ledger.rows().items()} == expected
    ledger.settle(lambda one: one["key"] != "k3")
    assert ledger.rows().keys() == expected.keys() - {"k3"}


def test_rows_are_committed_in_groups_and_after_seconds(tables, opened, monkeypatch):
    monkeypatch.setattr(module, "_GROUP_ROWS", 10)
    ledger = opened()
    for number in range(25):
        ledger.add([row(str(number))])
    assert (len(opened().rows()), len(tables.files(NAME))) == (20, 2)
    monkeypatch.setattr(module, "_GROUP_S", 0.0)
    ledger.add([row("late")])
    assert len(opened().rows()) == 26


def test_many_small_files_become_few_and_nothing_to_do_is_no_commit(tables, opened):
    ledger = opened()
    for number in range(20):
        ledger.add([row(str(number))])
        ledger.flush()
    ledger.settle(lambda one: True)
    assert (len(tables.files(NAME)), len(ledger.rows())) == (1, 20)
    version = tables.version(NAME)
    ledger.settle(lambda one: True)
    assert tables.version(NAME) == version
    ledger.settle(lambda one: False)
    assert len(tables.read(NAME)) == 0


def test_folding_down_to_the_rows_of_one_file_keeps_them(tables, opened):
    ledger = opened()
    for number in range(17):
        ledger.add([row(str(number), source=f"s{number}")])
        ledger.flush()
    ledger.settle(lambda one: one["source_id"] == "s3")
    assert ledger.rows().keys() == {"3"}


def test_a_ledger_reads_a_file_once_and_sees_what_others_commit(tables, opened, monkeypatch):
    read, whole = [], pq.ParquetFile
    monkeypatch.setattr(module.pq, "ParquetFile", lambda file: read.append(file) or whole(file))
    ledger, other = opened(), opened()
    for number in range(5):
        for one, key in ((ledger, f"own {number}"), (other, f"other {number}")):
            one.add([row(key)])
            one.flush()
        assert len(ledger.rows()) == 2 * (number + 1)
    assert len(read) == len(set(read)) == 10
    ledger.settle(lambda one: one["key"].startswith("own"))
    assert len(read) == 10
    assert ledger.rows() == opened().rows()


def test_rows_of_an_older_schema_are_passed_over_and_cleared_away(tables, opened):
    old = SCHEMAS[NAME].remove(0).empty_table()
    tables.replace(NAME, old)
    ledger = opened()
    ledger.add([row("new")])
    ledger.flush()
    assert ledger.rows().keys() == {"new"}
    ledger.settle(lambda one: True)
    assert tables.read(NAME).schema.names == SCHEMAS[NAME].names
