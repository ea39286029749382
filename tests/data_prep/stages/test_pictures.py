"""Laws of the scores of single pictures: closed forms, and what they must not depend on."""

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from data_prep.stages import black_bars, blockiness, noise, sharpness, text_area
from data_prep.view import Picture, SpanView, picture


def scene(height=270, width=480, seed=0):
    """Plain things with hard edges before a ground that gets lighter, in the middle of the range."""
    rng = np.random.default_rng(seed)
    luma = 110 + np.linspace(0, 20, width)[None] + np.zeros((height, 1))
    for _ in range(40):
        top, left = rng.integers(0, height - 40), rng.integers(0, width - 60)
        luma[top : top + rng.integers(10, 40), left : left + rng.integers(10, 60)] = rng.integers(70, 180)
    return luma


def as_picture(luma, **range_):
    return Picture(np.clip(luma.round(), 0, 255).astype(np.uint8), **range_)


def view(stage, *measures, height=270, width=480):
    thumbs = np.zeros((2, 27, 48, 3), np.uint8)
    return SpanView(thumbs, np.array([0.0, 1.0]), {stage: measures}, height, width)


@pytest.mark.parametrize("sigma", [2.0, 5.0, 12.0])
def test_noise_of_a_known_deviation_is_measured_whatever_is_under_it(sigma):
    rng = np.random.default_rng(1)
    noisy = scene() + rng.normal(0, sigma, (270, 480))
    assert noise.measure(as_picture(noisy)) == pytest.approx(sigma, rel=0.1)
    chroma = np.clip(128 + rng.normal(0, sigma, (135, 240)).round(), 0, 255).astype(np.uint8)
    only_chroma = Picture(as_picture(scene()).luma, chroma=(chroma, chroma))
    assert noise.measure(only_chroma) == pytest.approx(sigma, rel=0.1)


def test_more_blur_is_less_sharp_and_contrast_and_brightness_do_not_matter():
    clean = scene()
    ladder = [sharpness.measure(as_picture(ndimage.gaussian_filter(clean, blur))) for blur in (0, 1, 2, 4)]
    assert ladder == sorted(ladder, reverse=True)
    assert ladder[-1] < 0.5 * ladder[0]
    for changed in (clean / 2, clean + 30):
        assert sharpness.measure(as_picture(changed)) == pytest.approx(ladder[0], rel=0.06)
    assert sharpness.measure(as_picture(np.full((50, 50), 80.0))) == 0.0


def test_a_picture_made_larger_is_less_sharp_than_one_of_that_size():
    small = Image.fromarray(as_picture(scene()).luma).resize((120, 68), Image.Resampling.BOX)
    enlarged = np.asarray(small.resize((480, 270), Image.Resampling.BICUBIC))
    assert sharpness.measure(Picture(enlarged)) < 0.7 * sharpness.measure(as_picture(scene()))


@pytest.mark.parametrize("start", [(0, 0), (3, 5), (7, 2)])
def test_blocks_are_seen_wherever_their_grid_begins_and_only_them(start):
    clean = as_picture(scene()).luma
    blocks = np.kron(clean[:264, :].reshape(33, 8, 60, 8).mean((1, 3)), np.ones((8, 8)))
    blocky = Picture(blocks[start[0] :, start[1] :].round().astype(np.uint8))
    assert blockiness.measure(blocky) > 2
    assert blockiness.measure(Picture(clean)) < 1.3
    static = np.random.default_rng(0).integers(0, 255, (270, 480))
    assert blockiness.measure(as_picture(static)) < 1.2
    bars = np.concatenate([np.zeros((48, 480)), scene(), np.zeros((48, 480))])
    assert blockiness.measure(as_picture(bars)) < 1.3


def test_video_range_and_full_range_of_a_picture_have_the_same_scores():
    full = scene() + np.random.default_rng(2).normal(0, 6, (270, 480))
    full[:30] = 0
    video = as_picture(16 + full * 219 / 255, black=16, gain=255 / 219)
    assert noise.measure(video) * video.gain == pytest.approx(noise.measure(as_picture(full)), rel=0.1)
    for stage in (sharpness, blockiness):
        assert stage.measure(video) == pytest.approx(stage.measure(as_picture(full)), rel=0.1)
    for lines, other in zip(black_bars.measure(video), black_bars.measure(as_picture(full)), strict=True):
        assert (lines == other).all()


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv420p10le", "yuv444p", "gray", "rgb24", "nv12"])
@pytest.mark.parametrize("rotation", [0, 90, 180])
def test_every_format_gives_the_same_upright_gray(pixels, rotation):
    luma = as_picture(scene()).luma[:, :470]
    frame = av.VideoFrame.from_ndarray(np.repeat(luma[..., None], 3, -1), format="rgb24").reformat(format=pixels)
    seen = picture(frame, rotation)
    gray = (seen.luma.astype(float) - seen.black) * seen.gain
    assert np.abs(gray - np.rot90(luma, rotation // 90)).mean() < 1.5


def text_picture(words, *, texture=0.0, seed=0, at=(40, 200), contrast=90):
    rng = np.random.default_rng(seed)
    luma = scene(360, 640, seed) + texture * ndimage.gaussian_filter(rng.normal(size=(360, 640)), 1)
    mask = Image.new("L", (640, 360))
    ImageDraw.Draw(mask).text(at, words, fill=255, font=ImageFont.load_default(size=26))
    return as_picture(luma + contrast * np.asarray(mask, np.float64) / 255)


@pytest.mark.parametrize("contrast", [90, -90])
def test_a_line_of_text_that_stays_is_found_where_it_is(contrast):
    lines = text_area.measure(text_picture("Nobody reads subtitles", contrast=contrast))
    assert len(lines) >= 1
    top, bottom, left, right = lines.min(0)[0], lines.max(0)[1], lines.min(0)[2], lines.max(0)[3]
    assert 0.5 < top < bottom < 0.68
    assert 0.05 < left < right < 0.6
    stays = text_area.score(view("text_area", lines, lines))["text_area"]
    assert 0.002 < stays < 0.04


def test_text_that_moves_on_and_texture_are_no_overlay():
    one, other = (text_area.measure(text_picture("Nobody reads this", at=at)) for at in ((40, 200), (40, 90)))
    assert text_area.score(view("text_area", one, other))["text_area"] == 0
    for seed in range(4):
        plain = text_area.measure(text_picture("", texture=150.0, seed=seed))
        assert text_area.score(view("text_area", plain, plain))["text_area"] == 0


def test_tiny_pictures_have_null_scores_and_break_nothing():
    tiny = Picture(np.zeros((2, 2), np.uint8))
    assert [stage.measure(tiny) for stage in (noise, sharpness, blockiness)] == [None, None, None]
    assert noise.score(view("noise", None, None)) == {"noise": None}
    assert text_area.score(view("text_area", text_area.measure(tiny))) == {"text_area": 0.0}
    assert text_area.score(view("text_area")) == {"text_area": None}
    assert black_bars.measure(tiny).rows.shape == (2,)
