"""Laws of what is drawn around given pixels."""

import numpy as np
import pytest
import torch

from vidgen_core.applications.complete import Drawing, Given, complete, filled, known_latents
from vidgen_core.applications.extend import default_overlap, extend
from vidgen_core.applications.image_to_video import animate
from vidgen_core.applications.inpaint import inpaint
from vidgen_core.applications.interpolate import between, between_keys, key_frames
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import to_unit

PROMPTS = ["a red square moves left", "a blue circle moves up"]


def latents_of(generator, video, mask):
    return known_latents(generator.codec, to_unit(torch.from_numpy(video)[None]), torch.from_numpy(mask)[None, None])


def shown(video, *frames):
    mask = np.zeros(video.shape[:3], np.bool_)
    mask[list(frames)] = True
    return mask


def test_nothing_given_is_plain_sampling_bit_for_bit(generator, video):
    nothing = Given(np.stack([video] * 2), np.zeros((2, *video.shape[:3]), np.bool_))
    made = complete(generator, nothing, PROMPTS, Drawing(seed=3))
    assert np.array_equal(made.video, generator.videos(PROMPTS, seed=3))
    assert (made.known_share, made.codec_psnr_db) == (0.0, None)


def test_everything_given_comes_back(generator, video):
    made = complete(generator, Given(video[None], np.ones((1, *video.shape[:3]), np.bool_)), PROMPTS[:1])
    assert np.array_equal(made.video, video[None])
    assert made.known_share == 1.0
    assert made.codec_psnr_db > 30


@torch.no_grad()
def test_a_given_first_frame_has_the_latent_of_its_image(generator, video):
    latents, known = latents_of(generator, video, shown(video, 0))
    assert known[0, 0, :, 0, 0].tolist() == [True, False, False, False, False]
    assert known[:, :, 0].all()
    image = generator.codec.encode(to_unit(torch.from_numpy(video[None, :1])))
    assert torch.equal(latents[:, :, :1], image)


@torch.no_grad()
def test_a_group_of_frames_is_known_only_when_all_of_it_is_given(generator, video):
    assert latents_of(generator, video, shown(video, 0, 1, 3, 4, 8))[1][0, 0, :, 0, 0].tolist() == [
        True, False, True, False, False,
    ]  # fmt: skip
    part = shown(video, 0)
    part[0, 3, 7] = False
    known = latents_of(generator, video, part)[1][0, 0, 0]
    assert not known[0, 1]
    assert known.sum() == 15


@torch.no_grad()
def test_a_given_beginning_has_the_latents_that_it_has_alone(generator, video):
    latents, _ = latents_of(generator, video, shown(video, *range(5)))
    alone = generator.codec.encode(to_unit(torch.from_numpy(video[None, :5])))
    assert torch.allclose(latents[:, :, :3], alone, atol=1e-5)


def test_what_stands_in_the_hole_changes_nothing(generator, video):
    hole = np.zeros(video.shape[1:3], np.bool_)
    hole[4:12, 4:12] = True
    other = np.where(hole[None, :, :, None], 255 - video, video)
    assert np.array_equal(
        inpaint(generator, video, hole, PROMPTS).video, inpaint(generator, other, hole, PROMPTS).video
    )


def test_missing_frames_are_filled_along_a_line_and_missing_places_from_around():
    frames = torch.arange(5.0).view(1, 1, 5, 1, 1).expand(1, 3, 5, 8, 8) / 4
    ends = torch.zeros(1, 1, 5, 8, 8, dtype=torch.bool)
    ends[:, :, [0, 4]] = True
    assert torch.allclose(filled(frames, ends), frames)
    around = torch.ones(1, 1, 5, 8, 8, dtype=torch.bool)
    around[..., 2:6, 2:6] = False
    flat = torch.full((1, 3, 5, 8, 8), 0.3)
    assert torch.allclose(filled(torch.where(around, flat, 9.0), around), flat, atol=1e-5)
    assert (filled(flat, torch.zeros_like(around)) == 0).all()


def test_given_pixels_come_back_as_they_were_and_the_codec_alone_is_near_them(generator, video):
    made = animate(generator, video[0], PROMPTS)
    assert made.video.shape == (2, *video.shape)
    assert (made.video[:, 0] == video[0]).all()
    assert made.codec_psnr_db > 30
    assert not np.array_equal(made.video[0], made.video[1])
    hole = np.zeros(video.shape[1:3], np.bool_)
    hole[:8] = True
    drawn = inpaint(generator, video, hole, PROMPTS[:1])
    assert (drawn.video[0][:, 8:] == video[:, 8:]).all()
    assert drawn.known_share == 0.5
    assert not np.array_equal(drawn.video[0], video)


def test_two_pictures_are_the_ends_and_key_frames_are_kept(generator, video):
    made = between(generator, video[0], video[-1], PROMPTS[:1]).video[0]
    assert (made[0] == video[0]).all()
    assert (made[-2:] == video[-1]).all()
    assert key_frames(9, 2, 2).tolist() == [True, False, False, True, True, False, False, True, True]
    keyed = between_keys(generator, video, PROMPTS[:1]).video[0]
    assert (keyed[[0, 3, 4, 7, 8]] == video[[0, 3, 4, 7, 8]]).all()
    assert not np.array_equal(keyed[1], video[1])


def test_a_video_goes_on_window_by_window(generator, video):
    made = extend(generator, video, PROMPTS, frames=20).video
    assert made.shape == (2, 20, *video.shape[1:])
    assert (made[:, :9] == video).all()
    assert np.array_equal(made, extend(generator, video, PROMPTS, frames=20).video)
    assert not np.array_equal(made, extend(generator, video, PROMPTS, frames=20, drawing=Drawing(seed=1)).video)


def test_extending_what_was_extended_is_extending_at_once(generator, video):
    once = extend(generator, video, PROMPTS[:1], overlap=5, frames=17).video
    first = extend(generator, video, PROMPTS[:1], overlap=5).video[0]
    assert len(first) == 13
    assert np.array_equal(extend(generator, first, PROMPTS[:1], overlap=5).video, once)


def test_the_overlap_is_about_half_of_a_window_in_whole_groups():
    assert [default_overlap(9, 2, there) for there in (1, 2, 3, 4, 5, 9, 100)] == [1, 1, 3, 3, 5, 5, 5]
    assert default_overlap(8, 1, 100) == 4


def test_rounds_keep_what_is_given_and_draw_otherwise(generator, video):
    plain, again = (animate(generator, video[0], PROMPTS[:1], Drawing(rounds=rounds)).video for rounds in (1, 3))
    assert (again[:, 0] == video[0]).all()
    assert not np.array_equal(plain, again)


def test_mistakes_get_a_sentence(generator, unable, video):
    square = np.zeros((16, 16), np.bool_)
    for expected, act in (
        ("draws whole videos only", lambda: animate(unable, video[0], PROMPTS)),
        ("another shape", lambda: animate(generator, video[0, :8], PROMPTS)),
        ("another size than the video", lambda: inpaint(generator, video, square[:8], PROMPTS)),
        ("has no hole", lambda: inpaint(generator, video, square, PROMPTS)),
        ("too few frames to go on", lambda: extend(generator, video[:3], PROMPTS, overlap=5)),
        ("too few frames to go on", lambda: extend(generator, video[:0], PROMPTS)),
        ("as long already", lambda: extend(generator, video, PROMPTS, frames=9)),
        ("1 + a multiple of 2", lambda: extend(generator, video, PROMPTS, overlap=4)),
        ("too few frames to interpolate", lambda: between_keys(generator, video[:5], PROMPTS)),
        ("nothing to draw", lambda: between_keys(generator, video, PROMPTS, every=1)),
        ("of one size", lambda: between(generator, video[0], video[0, :8], PROMPTS)),
    ):
        with pytest.raises(VidgenError, match=expected.replace("+", r"\+")):
            act()
