"""Laws of probes: what can be told apart is, what cannot is not, and copies are found where they are nearest."""

import numpy as np
import pytest

from vidgen_core.evaluation.probes import changed_copies, linear_probe, recall_at_one, recall_at_precision


def test_a_linear_layer_finds_classes_that_are_there_and_guesses_where_there_are_none():
    draws = np.random.default_rng(0)
    labels = np.arange(400) % 4
    noise = draws.normal(size=(400, 12))
    apart = noise + 4 * np.eye(4, 12)[labels]
    halves = (slice(0, 300), slice(300, 400))
    for features, low, high in ((apart, 0.97, 1.0), (noise, 0.1, 0.4)):
        (train, train_labels), (test, test_labels) = ((features[half], labels[half]) for half in halves)
        assert low <= linear_probe(train, train_labels, test, test_labels) <= high
    moved = 1000 * apart + 7
    assert linear_probe(moved[:300], labels[:300], moved[300:], labels[300:]) > 0.97


def test_copies_are_found_up_to_the_precision():
    draws = np.random.default_rng(0)
    features = draws.normal(size=(50, 64))
    assert recall_at_precision(features, features + 0.1 * draws.normal(size=(50, 64))) == 1.0
    assert recall_at_precision(features, draws.normal(size=(50, 64))) < 0.1
    same = np.ones((50, 3))
    assert recall_at_precision(same, same) < 0.1
    assert recall_at_precision(3 * features, features) == 1.0


def test_a_caption_is_right_only_when_its_own_clip_is_above_all_others():
    scores = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 3.0]])
    assert recall_at_one(scores) == pytest.approx(2 / 3)


def test_copies_differ_a_little_and_are_a_function_of_the_seed():
    clips = np.random.default_rng(0).integers(60, 200, (3, 4, 1, 1, 3)).repeat(16, 2).repeat(16, 3).astype(np.uint8)
    copies = changed_copies(clips)
    assert copies.shape == clips.shape
    assert (copies == changed_copies(clips)).all()
    assert 0 < np.abs(copies.astype(float) - clips).mean() < 40
