"""Laws of our own shot detector: what is a transition, what is none, and that nothing depends on how frames come."""

import json
from itertools import pairwise

import av
import numpy as np
import pytest
from PIL import Image

from data_prep.quick_shots import quick_shots
from data_prep.shot_detectors import _cuts, _gradual, thumbnails
from data_prep.shot_detectors._pictures import pictures
from data_prep.shots import ShotFinder, ShotSettings, Transition, version
from tests.bench.bench_shots import Count, count, exact
from tests.bench.shot_films import thumbs_of
from vidgen_core.errors import VidgenError


def scene(seed, frames, *, speed=0.3, shake=0.0):
    """A picture of soft colored shapes, along which a camera moves; [frames, 27, 48, 3] float."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (7, 11, 3)).astype(np.uint8)
    wide = np.asarray(Image.fromarray(coarse).resize((120, 68), Image.Resampling.BICUBIC), np.float64)
    wide += rng.normal(0, 12, wide.shape)
    x = 30 + 15 * np.sin(speed / 15 * np.arange(frames)) + shake * rng.uniform(-1, 1, frames)
    y = 20 + shake * rng.uniform(-1, 1, frames)
    return np.stack([_window(wide, a, b) for a, b in zip(x, y, strict=True)])


def _window(wide, x, y):
    column, row = int(x), int(y)
    u, v = x - column, y - row
    part = wide[row : row + 28, column : column + 49]
    part = part[:, :-1] * (1 - u) + part[:, 1:] * u
    return part[:-1] * (1 - v) + part[1:] * v


def film(*parts):
    return np.concatenate(parts).clip(0, 255).astype(np.uint8)


def found(thumbs, *, pieces=(), **settings):
    finder = ShotFinder(ShotSettings(**settings))
    for part in np.split(thumbs, list(pieces)):
        finder.push(part)
    return finder.finish()


def cuts(*lengths, seed=0):
    """Shots of these lengths one behind the other, and the first frames of all but the first."""
    shots = [scene(seed + place, length) for place, length in enumerate(lengths)]
    return film(*shots), np.cumsum(lengths)[:-1].tolist()


def dissolved(before, after, frames):
    share = ((np.arange(frames) + 1) / (frames + 1))[:, None, None, None]
    mixed = before[-frames:] * (1 - share) + after[:frames] * share
    return film(before[:-frames], mixed, after[frames:]), Transition(len(before) - frames, len(before))


def test_hard_cuts_are_found_at_the_first_frame_of_the_new_shot():
    thumbs, firsts = cuts(40, 25, 6, 60, 12, 33)
    assert found(thumbs).transitions == [Transition(first, first) for first in firsts]


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_what_is_left_out_early_would_not_have_been_sure_enough(threshold):
    mixed, _ = dissolved(scene(1, 60), scene(2, 60), 12)
    thumbs = np.concatenate([cuts(40, 25, 6, 60, 12, 33)[0], mixed, film(scene(3, 90, speed=4, shake=3))])
    seen = pictures(thumbs)
    for look, sure in ((_cuts.candidates, _cuts.surely), (_gradual.stretches, _gradual.surely)):
        every, some = look(seen), look(seen, threshold)
        kept, left = sure(every) > threshold, sure(some) > threshold
        assert 0 < kept.sum() <= len(left) < len(kept)
        for whole, part in zip(every, some, strict=True):
            assert (whole[kept] == part[left]).all()


def test_shots_are_what_lies_between_transitions():
    thumbs, firsts = cuts(40, 25, 60)
    assert found(thumbs).spans == [(0, 40), (40, 65), (65, 125)]
    thumbs, mixed = dissolved(scene(1, 60), scene(2, 60), 12)
    answer = found(thumbs)
    assert len(answer.spans) == 2
    assert answer.spans[0][0] == 0
    assert answer.spans[1][1] == len(thumbs)
    gap = answer.spans[0][1], answer.spans[1][0]
    assert abs(gap[0] - mixed.start) <= 4
    assert abs(gap[1] - mixed.stop) <= 4


@pytest.mark.parametrize("frames", [6, 12, 24, 40])
def test_a_dissolve_is_one_transition_within_its_span(frames):
    thumbs, mixed = dissolved(scene(3, 90), scene(4, 90), frames)
    (answer,) = found(thumbs).transitions
    assert not answer.hard
    assert mixed.start - 2 <= answer.middle <= mixed.stop + 2


def test_a_wipe_and_a_fade_through_black_are_one_transition_each():
    before, after = scene(5, 60), scene(6, 60)
    columns = np.arange(48)[None, None, :, None]
    edge = (np.linspace(1, 47, 14))[:, None, None, None]
    wiped = film(before[:-14], np.where(columns < edge, after[:14], before[-14:]), after[14:])
    dark = np.linspace(1, 0, 10)[:, None, None, None]
    faded = film(before[:-10], before[-10:] * dark, after[:10] * dark[::-1], after[10:])
    for thumbs, start, stop in ((wiped, 46, 60), (faded, 50, 70)):
        (answer,) = found(thumbs).transitions
        assert not answer.hard
        assert start - 2 <= answer.middle <= stop + 2


@pytest.mark.parametrize("lit", [1, 2, 4])
@pytest.mark.parametrize("strength", [60, 255])
def test_a_flash_is_no_cut(lit, strength):
    shot = scene(7, 90)
    shot[40 : 40 + lit] += strength
    assert found(film(shot)).transitions == []


@pytest.mark.parametrize("gain", [0.4, 0.6, 1.5])
def test_another_exposure_is_no_cut_whether_at_once_or_slowly(gain):
    shot = scene(8, 90)
    step = shot.copy()
    step[45:] *= gain
    slow = shot * np.interp(np.arange(90), [40, 52], [1, gain])[:, None, None, None]
    assert found(film(step)).transitions == []
    assert found(film(slow)).transitions == []


def test_a_shaking_camera_makes_no_cut():
    for seed in range(5):
        assert found(film(scene(seed, 90, shake=2.5))).transitions == []


def test_a_cut_is_found_in_a_dark_film_and_in_a_shaken_one():
    dark = film(np.concatenate([scene(9, 50), scene(10, 50)]) * 0.15)
    shaken = film(scene(11, 50, shake=1.5), scene(12, 50, shake=1.5))
    assert [found(thumbs).transitions for thumbs in (dark, shaken)] == [[Transition(50, 50)]] * 2


def test_a_reversed_film_has_its_cuts_mirrored():
    thumbs, firsts = cuts(40, 25, 8, 60, 33, seed=20)
    flashed = thumbs.copy()
    flashed[100:102] = 255
    for one in (thumbs, flashed):
        back = found(one[::-1]).transitions
        assert [len(one) - cut.start for cut in reversed(back)] == firsts


def test_neither_pieces_nor_chunks_change_the_answer():
    first, middle = dissolved(scene(30, 700, speed=0.05), scene(31, 800, speed=0.05), 20)
    rest, firsts = cuts(333, 350, 341, 5, 300, seed=32)
    thumbs = np.concatenate([first, rest])
    assert len(thumbs) > 2 * thumbnails.CHUNK_FRAMES
    whole = thumbnails.transitions(thumbs)
    assert len(whole) == 1 + 1 + len(firsts)
    rng = np.random.default_rng(0)
    borders = np.sort(rng.integers(0, len(thumbs), 40))
    for pieces in ((), range(1, len(thumbs)), borders, (thumbnails.CHUNK_FRAMES,), (5, 5, 5)):
        assert found(thumbs, pieces=pieces).transitions == whole


def test_a_higher_threshold_finds_no_more():
    thumbs, _ = cuts(*[14] * 12, seed=50)
    counts = [len(found(thumbs, threshold=threshold).transitions) for threshold in (0.01, 0.5, 0.999)]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 8])
def test_a_film_of_few_frames_is_one_shot(frames):
    answer = found(film(scene(0, max(1, frames)))[:frames])
    assert answer.spans == ([(0, frames)] if frames else [])


def test_a_film_of_one_color_is_one_shot():
    assert found(np.full((300, 27, 48, 3), 255, np.uint8)).spans == [(0, 300)]


def write(file, thumbs, **options):
    """The film as a video of 10 x 10 pixels for each of a thumbnail."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"threads": "1", **options})
        stream.width, stream.height, stream.pix_fmt = 480, 270, "yuv420p"
        for picture in thumbs.repeat(10, axis=1).repeat(10, axis=2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())


def test_quick_shots_count_the_frames_that_they_do_not_decode(tmp_path):
    thumbs, firsts = cuts(40, 25, 60, 33, seed=60)
    for name, frames in (("plain", "0"), ("skipped", "3")):
        file = tmp_path / f"{name}.mp4"
        write(file, thumbs, bf=frames)
        assert quick_shots(file, ShotSettings()).spans == list(pairwise([0, *firsts, len(thumbs)]))


def test_an_unknown_detector_gets_a_sentence_with_those_there_are():
    with pytest.raises(VidgenError, match="thumbnails"):
        version(ShotSettings(detector="thumbnail"))


def test_the_exact_films_reach_the_goals_and_lone_shots_have_no_cut(shared_data):
    whole = Count()
    for name, file, truth in exact(shared_data):
        answers = count(found(thumbs_of(file)).transitions, truth)
        assert truth or not answers.false, name
        whole += answers
    assert whole.hard_f1 >= 0.97
    assert whole.gradual_f1 >= 0.80
    quick = sum(
        (count(quick_shots(file, ShotSettings()).transitions, truth) for _, file, truth in exact(shared_data)), Count()
    )
    assert quick.f1 >= whole.f1 - 0.02
    entries = json.loads((shared_data / "cuts.json").read_text())
    lone = [entry for entry in entries if entry.get("complete") and not entry["cuts"]]
    assert lone
    for entry in lone:
        assert found(thumbs_of(shared_data / entry["file"])).transitions == [], entry["file"]
