import threading
import time

import pytest

from vidgen_core.chance import Chance
from vidgen_core.errors import VidgenError
from vidgen_core.training.order import Order, Stream, ahead
from vidgen_core.training.place import Place
from vidgen_core.training.samples import Samples

TRAIN = 21


def test_every_epoch_meets_each_sample_once_in_an_order_of_its_own():
    order = Order(10, Chance(0))
    epochs = [order.stretch(10 * epoch, 10).tolist() for epoch in range(4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert order.first(3) == epochs[0][:3]


def test_the_order_is_a_function_of_the_position_alone():
    forward, backward = Order(7, Chance(3)), Order(7, Chance(3))
    positions = range(50)
    expected = [forward.stretch(place, 3).tolist() for place in positions]
    assert [backward.stretch(place, 3).tolist() for place in reversed(positions)][::-1] == expected


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_any_number_of_workers_meets_the_same_samples_with_the_same_keys(data, cases, world):
    settings = cases.settings(batch=12, workers=6)
    samples = Samples(data, "train", text=True)
    alone = Stream(samples, settings, Place(), Chance(0))
    shares = [Stream(samples, settings, Place(rank, world), Chance(0)) for rank in range(world)]
    for step in range(5):
        expected = alone.pieces(step)
        pieces = [piece for share in shares for piece in share.pieces(step)]
        assert [p.index.tolist() for p in pieces] == [e.index.tolist() for e in expected]
        assert all((p.video == e.video).all() for p, e in zip(pieces, expected, strict=True))
        assert [i for p in pieces for i in p.index.tolist()] == list(range(12 * step, 12 * step + 12))


def test_a_batch_may_end_one_epoch_and_begin_the_next(data, cases):
    samples = Samples(data, "train", text=False)
    stream = Stream(samples, cases.settings(batch=14), Place(), Chance(0))
    videos = [video for step in range(3) for piece in stream.pieces(step) for video in piece.video]
    assert len({video.numpy().tobytes() for video in videos[:TRAIN]}) == TRAIN
    assert len({video.numpy().tobytes() for video in videos[TRAIN:]}) == TRAIN


@pytest.mark.parametrize("world", [1, 2, 3])
def test_of_several_shapes_each_step_has_one_and_each_epoch_every_sample_once(cases, tmp_path, world):
    samples = Samples(cases.data_of_shapes(tmp_path), "train", text=True)
    settings = cases.settings(batch=6, workers=6, token_budget=24 * 12)
    shares = [Stream(samples, settings, Place(rank, world), Chance(0)) for rank in range(world)]
    seen, index, sizes = {shape: [] for shape in samples.buckets}, [], set()
    for step in range(40):
        pieces = [piece for share in shares for piece in share.pieces(step)]
        shapes = {tuple(piece.video.shape[1:]) for piece in pieces}
        assert len(shapes) == 1
        sizes.add((*shapes, sum(len(piece.video) for piece in pieces)))
        seen[shapes.pop()] += [video.numpy().tobytes() for piece in pieces for video in piece.video]
        index += [place for piece in pieces for place in piece.index.tolist()]
    assert index == list(range(len(index)))
    # 24 places a sample against 48: the budget of 12 and 6, of which `batch` allows 6.
    assert sizes == {((2, 1, 6, 4), 6), ((2, 3, 4, 4), 6)}
    for shape, videos in seen.items():
        count = len(samples.buckets[shape])
        assert all(len(set(videos[first : first + count])) == count for first in range(0, len(videos) - count, count))
        assert abs(len(videos) - len(index) * count / len(samples)) <= 2 * 6


def test_a_token_budget_shrinks_the_batches_of_large_shapes_alone(cases, tmp_path):
    samples = Samples(cases.data_of_shapes(tmp_path), "train", text=False)
    stream = Stream(samples, cases.settings(batch=8, accumulate=2, token_budget=100), Place(), Chance(0))
    sizes = {tuple(p.video.shape) for step in range(20) for p in stream.pieces(step)}
    assert sizes == {(2, 2, 1, 6, 4), (1, 2, 3, 4, 4)}
    with pytest.raises(VidgenError, match="token budget"):
        Stream(samples, cases.settings(token_budget=40), Place(), Chance(0))
    without = Stream(samples, cases.settings(batch=1, token_budget=40, bucket_rates={"3x4x4": 0}), Place(), Chance(0))
    assert {tuple(p.video.shape) for step in range(20) for p in without.pieces(step)} == {(1, 2, 1, 6, 4)}


def test_a_bucket_that_there_is_not_is_an_error_and_so_are_no_buckets(cases, tmp_path):
    samples = Samples(cases.data_of_shapes(tmp_path), "train", text=False)
    with pytest.raises(VidgenError, match="1x6x4, 3x4x4"):
        Stream(samples, cases.settings(bucket_rates={"9x9x9": 1}), Place(), Chance(0))
    with pytest.raises(VidgenError, match="No bucket"):
        Stream(samples, cases.settings(bucket_rates={"1x6x4": 0, "3x4x4": 0}), Place(), Chance(0))


def test_what_is_made_ahead_by_several_threads_comes_in_order():
    rest = iter([0.02, 0.0] * 10)
    assert list(ahead(lambda number: (time.sleep(next(rest)), number)[1], range(20), threads=3)) == list(range(20))


def test_what_is_made_ahead_comes_in_order_and_from_another_thread():
    threads = set()

    def make(number):
        threads.add(threading.current_thread())
        return number**2

    assert list(ahead(make, range(10))) == [number**2 for number in range(10)]
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_closing_early_leaves_no_thread_and_makes_little_in_vain():
    made = []
    items = ahead(made.append, range(100), depth=2)
    next(items)
    items.close()
    assert len(made) <= 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_an_error_while_making_reaches_who_takes():
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda number: 1 / number, [1, 0, 1]))
