"""Laws of fingerprints: what copying does to a picture does nothing to them, or something known."""

import av
import numpy as np
import pytest
import scipy.fft

from data_prep.duplicates.fingerprint import (
    DIMS,
    MIRROR,
    RATE,
    Fingerprint,
    Fingerprinter,
    coefficients,
    cropped,
    of_pictures,
)

WHOLE = (0.0, 0.0, 1.0, 1.0)


def smooth(seed, count=5, height=36, width=64):
    """Pictures of low frequencies only, uint8 [N, h, w]."""
    rng = np.random.default_rng(seed)
    waves = np.zeros((count, height, width))
    waves[:, :6, :8] = rng.normal(size=(count, 6, 8)) / (1 + np.add.outer(np.arange(6), np.arange(8)))
    pictures = scipy.fft.idctn(waves, axes=(1, 2), norm="ortho")
    return (128 + 40 * pictures / pictures.std()).clip(17, 235).astype(np.uint8)


def printed(luma):
    means = luma.reshape(len(luma), 9, 4, 16, 4).mean(axis=(2, 4)).astype(np.uint8)
    chroma = [np.stack([picture, 255 - picture]) for picture in means]
    return of_pictures(list(luma), chroma)


def correlation(a, b):
    a, b = a.floats()[: len(b)], b.floats()[: len(a)]
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_coefficients_are_the_cosine_transform_times_the_mean_of_each_wave_over_a_pixel():
    luma = smooth(0)
    expected = scipy.fft.dctn(luma.astype(float), axes=(1, 2), norm="ortho")[:, :9, :12] / np.sqrt(36 * 64)
    blur = [np.sinc(np.arange(count) / (2 * size)) for count, size in ((9, 36), (12, 64))]
    expected = (expected * np.outer(*blur)).reshape(5, -1)[:, 1:]
    np.testing.assert_allclose(coefficients(luma, WHOLE, (9, 12)), expected, atol=1e-3)


def test_mirroring_flips_the_signs_of_odd_waves():
    luma = smooth(1)
    np.testing.assert_allclose(printed(luma[:, :, ::-1]).floats(), printed(luma).floats() * MIRROR, atol=0.5)


def test_cropping_is_the_linear_map_it_is_said_to_be():
    luma = smooth(2)
    inside = coefficients(luma, (0.05, 0.05, 0.95, 0.95), (9, 12))
    mapped = coefficients(luma, WHOLE, (9, 12)) @ cropped(0.9)[:107, :107].T
    assert np.abs(inside - mapped).max() < 0.03 * np.abs(inside).max()


def test_gain_and_offset_change_the_scale_and_not_the_values():
    luma = smooth(3)
    dimmed = np.rint(luma * 0.7 + 20).astype(np.uint8)
    assert correlation(printed(luma), printed(dimmed)).min() > 0.999
    np.testing.assert_allclose(printed(dimmed).scales / printed(luma).scales, 0.7, atol=0.02)


@pytest.mark.parametrize("rows,columns", [((6, 30), (0, 64)), ((0, 36), (9, 55)), ((4, 33), (8, 60))])
def test_black_bars_are_left_out(rows, columns):
    luma = smooth(4, height=rows[1] - rows[0], width=columns[1] - columns[0])
    barred = np.full((len(luma), 36, 64), 16, np.uint8)
    barred[:, slice(*rows), slice(*columns)] = luma
    with_bars = of_pictures(list(barred), [np.zeros((2, 9, 16), np.uint8)] * len(luma))
    without = of_pictures(list(luma), [np.zeros((2, 9, 16), np.uint8)] * len(luma))
    assert correlation(with_bars, without).min() > 0.995
    assert with_bars.picture_share == pytest.approx(luma[0].size / (36 * 64), abs=0.02)


def test_a_clock_that_jumps_by_days_gives_the_samples_of_one_that_does_not():
    frames = [av.VideoFrame.from_ndarray(np.repeat(one[..., None], 3, 2), "rgb24") for one in smooth(6, 8)]

    def looked(jump_s):
        made = Fingerprinter()
        for place, frame in enumerate(frames):
            made.look(frame, place / RATE + jump_s * (place >= 3), 0)
        return made.result()

    assert len(looked(1000.0)) == 8 + 1000 * RATE
    np.testing.assert_array_equal(looked(1e6).floats(), looked(0.0).floats())


def test_bytes_round_trip():
    made = printed(smooth(5))
    read = Fingerprint.from_bytes(made.to_bytes())
    np.testing.assert_array_equal(read.floats(), made.floats())
    assert len(made.to_bytes()) == 5 * (DIMS + 2)


@pytest.mark.parametrize("copy", ["smaller", "larger", "coarse", "brighter", "slower", "letterboxed", "mirrored"])
def test_copies_have_the_same_fingerprint(originals, copies, films, copy):
    original, copied = films.fingerprint(originals[0]), films.fingerprint(copies[copy])
    if copy == "mirrored":
        copied = Fingerprint((copied.values * MIRROR).astype(np.int8), copied.scales)
    assert abs(len(original) - len(copied)) <= 1
    assert np.median(correlation(original, copied)) > 0.97


def test_strangers_do_not(originals, films):
    assert np.median(correlation(*map(films.fingerprint, originals[:2]))) < 0.5
