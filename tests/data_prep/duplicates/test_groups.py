"""Laws of groups: components, the best copy, what stays, and which side."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from data_prep.duplicates.align import Match
from data_prep.duplicates.groups import check_leaks, drop_copies, groups_of, rank
from data_prep.duplicates.resolve import split_of
from vidgen_core.errors import VidgenError


def span(source, start_s, stop_s):
    return {"source_id": source, "uri": f"{source}.mp4", "clip_id": f"{source}@{start_s}", "start_s": start_s,
            "stop_s": stop_s}  # fmt: skip


def match(start_s, stop_s, offset_s=0.0):
    return Match(start_s, stop_s, offset_s, False, 1.0, 0.99, 0.99)


def ids(spans):
    return [some["clip_id"] for some in spans]


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
def test_groups_are_the_connected_components(edges):
    names = [f"{number:02d}" for number in range(30)]
    found = groups_of(names, [(names[a], names[b]) for a, b in edges])
    matrix = coo_matrix((np.ones(len(edges)), tuple(zip(*edges, strict=True)) or ([], [])), shape=(30, 30))
    _, labels = connected_components(matrix, directed=False)
    for name, label in zip(names, labels, strict=True):
        members = [other for other, its in zip(names, labels, strict=True) if its == label]
        assert found[name] == min(members)


def test_the_best_copy_has_most_pixels_of_picture_then_bytes_a_second_then_length():
    row = {"width": 640, "height": 480, "bytes": 1000, "duration_s": 10.0}
    rows = [
        row | {"source_id": "letterboxed"},
        row | {"source_id": "small", "width": 320, "bytes": 9000},
        row | {"source_id": "plain", "height": 400},
        row | {"source_id": "coarse", "height": 400, "bytes": 500},
        row | {"source_id": "long", "height": 400, "bytes": 2000, "duration_s": 20.0},
    ]
    assert rank(rows, {"letterboxed": 0.75}) == ["long", "plain", "coarse", "letterboxed", "small"]
    assert rank(rows[::-1], {"letterboxed": 0.75}) == rank(rows, {"letterboxed": 0.75})


def test_a_copy_loses_the_spans_that_the_better_one_keeps_and_no_other():
    """The worse source is two seconds longer at its end, and its time is half a second behind."""
    spans = [span("best", t, t + 1.0) for t in range(4)] + [span("worse", t + 0.5, t + 1.5) for t in range(6)]
    kept, dropped = drop_copies(spans, {("best", "worse"): [match(0, 4, 0.5)]}, ["best", "worse"], 0.5)
    assert ids(kept) == ids([*spans[:4], *spans[8:]])
    assert {why.of for _, why in dropped} == {"best.mp4"}
    assert all(why.value == pytest.approx(1) for _, why in dropped)


def test_a_span_that_failed_in_the_better_copy_is_kept_in_the_worse():
    spans = [span("best", 1, 2), span("worse", 0, 1), span("worse", 1, 2)]
    kept, _ = drop_copies(spans, {("best", "worse"): [match(0, 4)]}, ["best", "worse"], 0.5)
    assert ids(kept) == ["best@1", "worse@0"]


def test_copies_of_copies_are_copies():
    spans = [span(name, 0, 1) for name in "abcd"]
    chain = {("a", "b"): [match(0, 4)], ("b", "c"): [match(0, 4)], ("c", "d"): [match(0, 4)]}
    assert ids(drop_copies(spans, chain, list("abcd"), 0.5)[0]) == ["a@0"]


def test_a_match_elsewhere_does_not_block_the_way_through_another_copy():
    spans = [span("best", 10, 14), span("worse", 10, 14)]
    through = {("between", "worse"): [match(10, 14)], ("best", "between"): [match(10, 14)]}
    for matches in (through, {("best", "worse"): [match(0, 4)], **through}):
        assert ids(drop_copies(spans, matches, ["best", "between", "worse"], 0.5)[0]) == ["best@10"]


@given(st.permutations(range(8)))
def test_the_order_of_spans_changes_nothing(order):
    spans = [span(name, t, t + 1.0) for name in "ab" for t in range(4)]
    kept, _ = drop_copies([spans[place] for place in order], {("a", "b"): [match(0, 2.5)]}, ["b", "a"], 0.5)
    assert sorted(ids(kept)) == ["a@3", "b@0", "b@1", "b@2", "b@3"]


def test_the_share_held_out_is_the_share_of_groups():
    held = sum(split_of(str(number), 0.2) == "held_out" for number in range(4000)) / 4000
    assert held == pytest.approx(0.2, abs=0.02)


def test_a_leak_names_the_pair():
    clips = [{"source_id": "a", "split": "train"}, {"source_id": "b", "split": "held_out"}]
    uris = {"a": "one.mp4", "b": "two.mp4"}
    check_leaks(clips, [], uris)
    with pytest.raises(VidgenError, match=r"one\.mp4 and two\.mp4"):
        check_leaks(clips, [("a", "b")], uris)
    with pytest.raises(VidgenError, match=r"one\.mp4"):
        check_leaks([*clips, {"source_id": "a", "split": "held_out"}], [], uris)
