"""Laws of pictures, videos and masks that are handed to a model."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from data_prep.given import read_mask, read_picture, read_video
from vidgen_core.clip import encode
from vidgen_core.errors import VidgenError


@pytest.fixture
def ramp(tmp_path):
    """A video of 24 frames at 24 a second, 64x32, whose gray grows by ten a frame."""
    file = tmp_path / "ramp.mp4"
    file.write_bytes(encode(np.stack([np.full((32, 64, 3), 10 * n, np.uint8) for n in range(24)]), "24"))
    return file


def test_each_time_shows_the_frame_of_that_time(ramp):
    read = read_video(ramp, 32, 32, "8")
    assert np.allclose(read.video.mean((1, 2, 3)), 10 * np.arange(0, 24, 3), atol=3)
    assert read.video.shape == (8, 32, 32, 3)
    assert "24 frames a second and is taken at 8" in read.note
    assert "64x32" in read.note
    doubled = read_video(ramp, 32, 64, "48")
    assert np.allclose(doubled.video.mean((1, 2, 3)), 10 * (np.arange(48) // 2), atol=3)
    assert "64x32" not in doubled.note


def test_a_frame_with_a_time_of_years_is_too_long_and_fills_no_memory(tmp_path):
    with av.open(str(tmp_path / "late.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=24, width=32, height=32)
        for pts in (0, 1, 24 * 10**8):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VidgenError, match="too long"):
        read_video(tmp_path / "late.mkv", 32, 32, "8")


def test_a_video_of_the_models_size_and_rate_is_taken_as_it_is(tmp_path):
    clip = np.random.default_rng(0).integers(60, 200, (9, 4, 4, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    (tmp_path / "a.mp4").write_bytes(encode(clip, "8"))
    read = read_video(tmp_path / "a.mp4", 32, 32, "8")
    with av.open(io.BytesIO(encode(clip, "8"))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert read.note == ""
    assert np.abs(read.video.astype(int) - np.stack(frames)).max() <= 2
    (tmp_path / "one.mp4").write_bytes(encode(clip[:1], "8"))
    assert len(read_video(tmp_path / "one.mp4", 32, 32, "8").video) == 1


def test_a_picture_is_cropped_about_its_middle_and_told(tmp_path):
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    read = read_picture(tmp_path / "wide.png", 32, 32)
    assert (read.video == 255).all()
    assert read.note == "wide.png is 96x32; its middle is taken at 32x32, the model's size."


def test_a_box_and_its_picture_are_the_same_hole(ramp, tmp_path):
    like = read_video(ramp, 16, 16, "8")
    white = np.zeros((32, 64), np.uint8)
    white[8:24, 20:28] = 255
    Image.fromarray(white).save(tmp_path / "mask.png")
    hole = read_mask("20,8,8,16", like, 16, 16)
    assert np.array_equal(hole, read_mask(str(tmp_path / "mask.png"), like, 16, 16))
    assert hole[4:12, 2:6].all()
    assert hole.sum() < 70


def test_mistakes_get_a_sentence(ramp, tmp_path):
    (tmp_path / "words.txt").write_text("words")
    like = read_video(ramp, 16, 16, "8")
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "mask.png")
    for expected, act in (
        ("no such file", lambda: read_picture(tmp_path / "gone.png", 16, 16)),
        ("no picture that can be read", lambda: read_picture(tmp_path / "words.txt", 16, 16)),
        ("no video that can be read", lambda: read_video(tmp_path / "words.txt", 16, 16, "8")),
        ("another size than the video", lambda: read_mask(str(tmp_path / "mask.png"), like, 16, 16)),
        ("reaches out of the video", lambda: read_mask("60,0,8,8", like, 16, 16)),
        ("reaches out of the video", lambda: read_mask("0,0,0,8", like, 16, 16)),
        ("leaves nothing to draw", lambda: read_mask("0,0,4,4", like, 16, 16)),
        ("leaves nothing of the video", lambda: read_mask("0,0,64,32", like, 16, 16)),
    ):
        with pytest.raises(VidgenError, match=expected):
            act()
