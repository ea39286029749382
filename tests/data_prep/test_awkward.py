"""Awkward files, each made here, handled as a careful person would."""

from fractions import Fraction

import ffmpeg
import imageio_ffmpeg
import numpy as np
import pytest

from data_prep.analyze import analyze
from data_prep.clips import cut
from data_prep.decode import Undecodable
from data_prep.settings import DataSettings
from data_prep.sources import Source
from vidgen_core.clip import decode_clips

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
SETTINGS = DataSettings()


def pictures(count=40, height=96, width=128):
    """Left half red, right half blue, a bright square that moves to the right along the top edge."""
    made = np.zeros((count, height, width, 3), np.uint8)
    made[:, :, : width // 2] = (200, 30, 30)
    made[:, :, width // 2 :] = (30, 30, 200)
    for frame in range(count):
        made[frame, 4:20, frame : frame + 16] = (230, 230, 230)
    return made


def write(file, frames, *, rate=24, codec="libx264", pix_fmt="yuv420p", **options):
    height, width = frames.shape[1:3]
    raw = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=rate)
    made = raw.output(str(file), vcodec=codec, pix_fmt=pix_fmt, loglevel="error", **options).overwrite_output()
    made.run(cmd=FFMPEG, input=frames.tobytes(), capture_stderr=True)
    return Source("s" * 32, file.name, file)


def clips_of(source):
    analysis = analyze(source, SETTINGS)
    spans = [span | {"split": "train"} for span in analysis.spans]
    return analysis, decode_clips([row["media"] for row in cut(source.file, spans, SETTINGS)])


def test_a_rotated_video_is_turned_once(tmp_path):
    plain = write(tmp_path / "plain.mp4", pictures())
    turned = tmp_path / "turned.mp4"
    (
        ffmpeg.input(str(plain.file), display_rotation=-90)
        .output(str(turned), c="copy", loglevel="error")
        .run(cmd=FFMPEG, capture_stderr=True)
    )
    analysis, clips = clips_of(Source("s" * 32, "turned.mp4", turned))
    assert (analysis.source["width"], analysis.source["height"]) == (96, 128)
    assert abs(analysis.source["rotation"]) == 90
    # Turned clockwise, what was left is up.
    up, down = clips[0, 0, 8, 8].astype(int), clips[0, 0, 24, 8].astype(int)
    assert up[0] > up[2] + 80
    assert down[2] > down[0] + 80


def test_pixels_that_are_not_square_keep_the_shape_of_things(tmp_path):
    frames = np.full((40, 64, 128, 3), 60, np.uint8)
    frames[:, 16:48, 32:96] = 220  # 64 x 32 stored, square when shown with pixels twice as high
    source = write(tmp_path / "wide.mp4", frames, **{"bsf:v": "h264_metadata=sample_aspect_ratio=1/2"})
    analysis, clips = clips_of(source)
    assert Fraction(analysis.source["sar"]) == Fraction(1, 2)
    lit = clips[0, 0].mean(-1) > 140
    assert abs(int(lit.any(0).sum()) - int(lit.any(1).sum())) <= 1


def test_a_variable_rate_is_sampled_by_time_and_not_by_count(tmp_path):
    # From frame 30 on each frame lasts three times as long.
    source = write(
        tmp_path / "vfr.mkv",
        pictures(60),
        **{"vf": "setpts=if(lt(N\\,30)\\,N\\,30+(N-30)*3)/(24*TB)", "fps_mode": "vfr"},
    )
    analysis = analyze(source, SETTINGS)
    assert analysis.source["variable_rate"]
    late = analysis.spans[-1]
    assert late["stop_s"] - late["start_s"] == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(
    "name,options",
    [
        ("odd.webm", {"codec": "libvpx-vp9", "pix_fmt": "yuv444p"}),
        ("ten_bit.mkv", {"codec": "libx265", "pix_fmt": "yuv420p10le", "x265-params": "log-level=none"}),
        ("full_range.mp4", {"pix_fmt": "yuvj420p"}),
        ("old.avi", {"codec": "mpeg4"}),
        ("moving.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
        ("stream.ts", {"codec": "mpeg2video"}),
    ],
)
def test_colors_come_through_every_format(tmp_path, name, options):
    size = {"height": 97, "width": 129} if name.startswith("odd") else {}
    analysis, clips = clips_of(write(tmp_path / name, pictures(**size), rate=25, **options))
    assert analysis.source["frames"] == 40
    left, right = clips[0, :, 20:, 4:12].mean((0, 1, 2)), clips[0, :, 20:, 20:28].mean((0, 1, 2))
    assert np.abs(left - (200, 30, 30)).max() < 25
    assert np.abs(right - (30, 30, 200)).max() < 25


def test_one_frame_is_a_source_without_a_clip(tmp_path):
    analysis = analyze(write(tmp_path / "one.mp4", pictures(1)), SETTINGS)
    assert analysis.source["frames"] == 1
    assert analysis.spans == []


def test_sound_without_picture_is_refused_with_its_reason(tmp_path):
    file = tmp_path / "sound.wav"
    tone = ffmpeg.input("sine=frequency=440:duration=1", f="lavfi")
    tone.output(str(file), loglevel="error").run(cmd=FFMPEG, capture_stderr=True)
    with pytest.raises(Undecodable) as caught:
        analyze(Source("s" * 32, "sound.wav", file), SETTINGS)
    assert caught.value.reason == "no_picture"


def test_a_file_cut_short_keeps_the_frames_that_the_ffmpeg_program_rescues(tmp_path):
    whole = write(tmp_path / "whole.mp4", pictures(240), movflags="faststart", g=24)
    cut_short = tmp_path / "cut.mp4"
    cut_short.write_bytes(whole.file.read_bytes()[: whole.file.stat().st_size * 6 // 10])
    raw = ffmpeg.input(str(cut_short)).output(
        "pipe:", format="rawvideo", pix_fmt="gray", fps_mode="passthrough", loglevel="quiet"
    )
    rescued = len(raw.run(cmd=FFMPEG, capture_stdout=True, capture_stderr=True)[0]) // (96 * 128)
    analysis = analyze(Source("s" * 32, "cut.mp4", cut_short), SETTINGS)
    assert 0 < rescued <= analysis.source["frames"] < 240


def test_black_bars_are_cropped_and_what_is_left_fills_the_clip(tmp_path):
    frames = np.zeros((40, 128, 128, 3), np.uint8)
    frames[:, 24:104] = pictures(40, 80, 128)
    analysis, clips = clips_of(write(tmp_path / "bars.mp4", frames))
    span = analysis.spans[0]
    assert abs(span["crop_y"] - 24) <= 1
    assert abs(span["crop_h"] - 80) <= 2
    assert span["keep_area"] == pytest.approx(80 / 128, abs=0.03)
    assert clips[0, :, -1].max(-1).min() > 60
