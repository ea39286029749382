"""Laws of the search: copies are found, strangers are not, and the order of things changes nothing."""

import itertools

import numpy as np
import pytest

from data_prep.duplicates.fingerprint import DIMS, RATE, Fingerprint, of_pictures
from data_prep.duplicates.matches import between
from data_prep.duplicates.search import Index, codes_of, merged
from data_prep.duplicates.settings import PerceptualSettings
from data_prep.samples.draw import frames
from data_prep.samples.plan import film

SETTINGS = PerceptualSettings()


@pytest.fixture(scope="module")
def prints(originals, copies, films):
    found = {f"film-{number}": films.fingerprint(file) for number, file in enumerate(originals)}
    return found | {name: films.fingerprint(file) for name, file in copies.items()}


def search(prints, new=None, names=None):
    names = list(prints) if names is None else names
    return between(names, names if new is None else new, prints.__getitem__, SETTINGS)


def test_every_copy_is_found_and_no_stranger(prints, copies):
    pairs = set(search(prints))
    assert {tuple(sorted(("film-0", copy))) for copy in copies} <= pairs
    assert not any("film-1" in pair or "film-2" in pair for pair in pairs)


def test_a_match_says_how_the_copy_was_made(prints):
    found = search(prints, names=["film-0", "mirrored", "trimmed", "cropped"])
    assert found["film-0", "mirrored"][0].mirrored
    trimmed = found["film-0", "trimmed"]
    assert all(match.offset_s == pytest.approx(-1.1, abs=0.15) for match in trimmed)
    assert sum(match.seconds for match in trimmed) > 1.8
    assert found["cropped", "film-0"][0].share < 1


def test_the_order_of_sources_changes_nothing(prints):
    names = list(prints)
    assert search(prints, names=names) == search(prints, names=names[::-1])


@pytest.mark.parametrize("seed", range(3))
def test_one_after_the_other_finds_what_all_at_once_does(prints, seed):
    names = np.random.default_rng(seed).permutation(list(prints)).tolist()
    grown = {}
    for count in range(1, len(names) + 1):
        grown |= search(prints, new=[names[count - 1]], names=names[:count])
    assert grown == search(prints)


def test_samples_meet_when_a_band_is_equal_or_its_least_certain_bits_are_not():
    rng = np.random.default_rng(0)
    values = 10 * rng.normal(size=(100, DIMS)).astype(np.float32)
    queries = codes_of(1, values + rng.normal(size=values.shape).astype(np.float32) * 2)
    index = codes_of(0, values)
    met = {tuple(row) for row in Index(index).meet(queries)[:, 2:].tolist()}
    for query, base in itertools.product(range(25), range(100)):
        masks = [0] * 3
        for band in range(3):
            for flips in itertools.product([0, 1], repeat=3):
                bits = int(queries.band(band)[query])
                for flip, doubt in zip(flips, queries.doubts[query, band].tolist(), strict=True):
                    bits ^= doubt * flip
                masks[band] |= bits == int(index.band(band)[base])
        near = (int(queries.bits[query]) ^ int(index.bits[base])).bit_count() <= 18
        assert ((query, base - query) in met) == (any(masks) and near)


def test_an_index_of_nothing_meets_nothing():
    assert len(Index(merged([])).meet(codes_of(0, np.ones((2, DIMS), np.float32)))) == 0


def test_sixty_sample_videos_are_not_copies_of_each_other():
    """Shapes that move over plain grounds have little to tell them apart."""
    prints = {}
    for number in range(60):
        planned = film(0, number)
        step = 24 // RATE
        some = [picture for place, picture in enumerate(frames(planned)) if place % step == 0]
        prints[f"{number:02d}"] = drawn(np.stack(some))
    assert search(prints) == {}


@pytest.mark.parametrize("level", [16, 20, 128])
def test_flat_and_dark_videos_are_not_copies_of_each_other(level):
    rng = np.random.default_rng(level)
    noise = {f"{seed}": level + rng.integers(0, 3, (40, 36, 64, 3)) for seed in range(20)}
    assert search({name: drawn(video) for name, video in noise.items()}) == {}


def test_still_videos_are_copies_only_of_the_same_picture(films):
    rng = np.random.default_rng(7)
    stills = [films.film(seed, frames=4)[0] for seed in range(20)]
    prints = {}
    for number, still in enumerate(stills):
        for copy in range(2):
            noisy = still[None] + rng.integers(-2, 3, (24, *still.shape))
            prints[f"{number}-{copy}"] = drawn(noisy.clip(0, 255))
    assert set(search(prints)) == {(f"{number}-0", f"{number}-1") for number in range(20)}


def test_two_takes_by_one_camera_are_not_copies(films):
    """The pictures are alike to 0.98; what moves before the wall is not."""
    wall = films.film(3, frames=4)[0].astype(float)
    rows, columns = np.mgrid[:96, :160]
    prints = {}
    for take in range(6):
        rng = np.random.default_rng(take)
        way = np.cumsum(rng.normal(size=(24, 2)) * 6, axis=0) + (48, 80)
        video = [wall + 40 * np.exp(-(((rows - y) / 12) ** 2) - ((columns - x) / 12) ** 2)[..., None] for y, x in way]
        prints[str(take)] = drawn(np.clip(video, 0, 255))
    assert search(prints) == {}


def drawn(video):
    """The fingerprint of samples, RGB [T, h, w, 3]."""
    video = np.asarray(video, float)
    luma = 16 + video @ (0.257, 0.504, 0.098)
    chroma = 128 + video @ np.array([(-0.148, -0.291, 0.439), (0.439, -0.368, -0.071)]).T
    return of_pictures(
        list(np.rint(luma).astype(np.uint8)),
        list(np.rint(chroma[:, ::4, ::4]).clip(0, 255).astype(np.uint8).transpose(0, 3, 1, 2)),
    )


def test_a_fingerprint_without_samples_matches_nothing():
    empty = Fingerprint(np.zeros((0, DIMS), np.int8), np.zeros(0, np.float16))
    assert search({"a": empty, "b": empty}) == {}


@pytest.mark.parametrize("seconds,found", [(5, True), (3, False)])
def test_sources_with_a_stretch_in_common_need_the_longer_of_share_or_excerpt(films, seconds, found):
    """Two sources of ten seconds: less than 60 % is in common, so it must be four seconds."""
    videos = [films.film(seed, frames=200)[::5] for seed in (11, 12)]
    mixed = np.concatenate([videos[0][: RATE * seconds], videos[1][RATE * seconds :]])
    prints = {"a": drawn(videos[0]), "b": drawn(mixed)}
    assert bool(search(prints)) is found
    loose = PerceptualSettings(min_excerpt_s=2) if not found else PerceptualSettings(min_excerpt_s=6)
    assert bool(between(["a", "b"], ["a", "b"], prints.__getitem__, loose)) is not found
