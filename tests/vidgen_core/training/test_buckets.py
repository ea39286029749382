from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidgen_core.chance import Chance
from vidgen_core.training.buckets import Bucket, Turns

RATES = [Fraction(1), Fraction(1), Fraction(1, 2), Fraction(2), Fraction("0.3")]
BUCKETS = st.lists(
    st.builds(Bucket, st.integers(1, 40).map(np.arange), st.integers(1, 16), st.sampled_from(RATES)),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(BUCKETS, st.integers(0, 5))
def test_each_buckets_stream_and_the_runs_have_no_gap_and_no_overlap(buckets, seed):
    turns = Turns(buckets, Chance(seed))
    at, index = [0] * len(buckets), 0
    for step in range(60):
        turn = turns.at(step)
        assert (turn.position, turn.stream) == (at[turn.bucket], index)
        at[turn.bucket] += buckets[turn.bucket].batch
        index += buckets[turn.bucket].batch


@settings(max_examples=60, deadline=None)
@given(BUCKETS, st.integers(1, 9))
def test_after_some_epochs_each_sample_came_as_often_as_its_rate_says(buckets, epochs):
    turns = Turns(buckets, Chance(0))
    steps = sum(bucket.turns(epochs) for bucket in buckets)
    taken = [0] * len(buckets)
    for step in range(steps):
        taken[turns.at(step).bucket] += 1
    for bucket, count in zip(buckets, taken, strict=True):
        assert 0 <= count * bucket.batch - epochs * len(bucket.numbers) * bucket.rate < bucket.batch


@given(BUCKETS)
@settings(max_examples=30, deadline=None)
def test_a_turn_is_a_function_of_the_step_alone(buckets):
    forward, backward = Turns(buckets, Chance(1)), Turns(buckets, Chance(1))
    assert [forward.at(step) for step in range(40)] == [backward.at(step) for step in reversed(range(40))][::-1]


@pytest.mark.parametrize(("count", "batch"), [(21, 4), (3, 32), (64, 64)])
def test_one_bucket_is_one_stream(count, batch):
    turns = Turns([Bucket(np.arange(count), batch, Fraction(1))], Chance(0))
    assert [turns.at(step) for step in (0, 1, 7, 1000)] == [(0, step * batch, step * batch) for step in (0, 1, 7, 1000)]


def test_buckets_are_mixed_and_not_drained_one_after_the_other():
    buckets = [Bucket(np.arange(400), 4, Fraction(1)), Bucket(np.arange(400), 4, Fraction(1))]
    turns = [Turns(buckets, Chance(0)).at(step).bucket for step in range(200)]
    changes = sum(one != other for one, other in zip(turns, turns[1:], strict=False))
    assert changes > 70
