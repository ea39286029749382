"""What keeps a driver small and unhurried: rows that are made when looked at, commits in proportion, declared needs."""

import pickle
import time
from functools import partial

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.needs import GIB, Needs, needs, needs_of
from data_prep.pace import Pace
from data_prep.rows import grouped


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9), st.integers())))
def test_grouped_rows_are_those_of_a_dictionary_of_sorted_lists(rows):
    table = pa.table(
        {"by": [a for a, _, _ in rows], "order": [b for _, b, _ in rows], "more": [c % 7 for *_, c in rows]}
    )
    table = table.cast(pa.schema([("by", pa.string()), ("order", pa.int64()), ("more", pa.int64())]))
    expected = {}
    for row in sorted(table.to_pylist(), key=lambda row: (row["by"], row["order"])):
        expected.setdefault(row["by"], []).append(row)
    found = grouped(table, "by", "order")
    assert list(found) == sorted(expected)
    for key, some in found.items():
        assert len(some) == len(expected[key])
        assert [row["order"] for row in some] == [row["order"] for row in expected[key]]
        assert pickle.loads(pickle.dumps(some)) == tuple(some)
        assert some[0] == tuple(some)[0]


def test_commits_take_about_a_twentieth_of_the_time(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    pace, finished, spent = Pace(), 0, 0.0
    for _ in range(10_000):
        clock[0] += 0.1
        finished += 1
        if pace.due(finished):
            with pace.committing():
                clock[0] += 2.0
            finished, spent = 0, spent + 2.0
    assert 0.04 < spent / clock[0] < 0.06


def test_quick_commits_wait_for_a_few_units_only():
    pace = Pace()
    assert [pace.due(finished) for finished in (1, 15, 16)] == [False, False, True]


@needs(cpus=2, gpus=0.5, memory_gib=3)
def hungry(item):
    return item


def test_what_a_function_needs_is_declared_beside_it_and_seen_through_a_partial_call():
    assert needs_of(partial(partial(hungry, 1), 2)) == Needs(2, 0.5, 3 * GIB)
    assert needs_of(len) == Needs()


@pytest.mark.parametrize(
    ("node", "times"),
    [
        ({"CPU": 8.0, "GPU": 1.0, "memory": 64.0 * GIB}, 2),
        ({"CPU": 3.0, "GPU": 4.0, "memory": 64.0 * GIB}, 1),
        ({"CPU": 8.0, "GPU": 4.0, "memory": 7.0 * GIB}, 2),
        ({"CPU": 8.0, "memory": 64.0 * GIB}, 0),
    ],
)
def test_a_node_takes_as_many_tasks_as_its_scarcest_amount_allows(node, times):
    assert needs_of(hungry).times(node) == times


def test_a_machine_smaller_than_what_was_declared_takes_one_task_at_a_time():
    amounts = {"CPU": 4.0, "GPU": 1.0, "memory": 1.0 * GIB}
    assert needs_of(hungry).times(amounts) == 0
    assert needs_of(hungry).within(1.0 * GIB).times(amounts) == 1
