"""Not one wrong frame: every picture carries its number, and every way of reading finds the right ones.

Files of all the kinds that make seeking decoders return neighbors. What is right is what the ffmpeg program shows,
frame by frame with its times; prepare must see the same, cut the same, and training must read the same back.
"""

import io
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import decord
import ffmpeg
import imageio_ffmpeg
import numpy as np
import pytest

from data_prep import clips
from data_prep.analyze import analyze
from data_prep.clips import cut, pictures
from data_prep.decode import open_source, take_decoded
from data_prep.placing import sample_times
from data_prep.settings import DataSettings, ShotSettings
from data_prep.sources import Source

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
HEIGHT, WIDTH, FRAMES, RATE = 96, 160, 192, 24
BITS, BAR_PX = 8, 16
# No cut, whatever the numbers do, so that clips stand one behind the other over the whole file.
SETTINGS = DataSettings(height=HEIGHT, width=WIDTH, shots=ShotSettings(threshold=2.0))
X264 = {"vcodec": "libx264", "crf": 18}


def numbered() -> np.ndarray:
    """Pictures [FRAMES, H, W, 3] of a drifting gradient with the frame's number as bars of black and white below."""
    x = np.arange(WIDTH)
    pictures = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    for frame in range(FRAMES):
        pictures[frame] = (96 + 60 * np.sin((x + 2 * frame) / 17.0))[None, :, None]
        for bit in range(BITS):
            bar = slice(bit * BAR_PX, (bit + 1) * BAR_PX)
            pictures[frame, HEIGHT // 2 :, bar] = 235 if frame >> bit & 1 else 16
    return pictures


def numbers_of(pictures: np.ndarray) -> list[int]:
    """What the bars of upright pictures [N, H, W] or [N, H, W, 3] say."""
    gray = pictures if pictures.ndim == 3 else pictures.mean(-1)
    bars = gray[:, HEIGHT * 5 // 8 : HEIGHT * 7 // 8]
    lit = [bars[:, :, bit * BAR_PX + 5 : (bit + 1) * BAR_PX - 5].mean((1, 2)) > 128 for bit in range(BITS)]
    return [sum(int(lit[bit][frame]) << bit for bit in range(BITS)) for frame in range(len(gray))]


def run(*words: str) -> None:
    subprocess.run([FFMPEG, "-v", "error", "-nostdin", "-y", *words], check=True, capture_output=True)


def encoded(**options: object) -> Callable[[Path], None]:
    """Writes the numbered pictures by the ffmpeg program."""

    def make(file: Path) -> None:
        raw = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{WIDTH}x{HEIGHT}", framerate=RATE)
        made = raw.output(str(file), **{"pix_fmt": "yuv420p", "loglevel": "error", **X264, **options})
        made.overwrite_output().run(cmd=FFMPEG, input=numbered().tobytes(), capture_stderr=True)

    return make


def copied(*output: str, before: tuple[str, ...] = (), suffix: str = ".mp4") -> Callable[[Path], None]:
    """Writes a file with B frames and copies its packets into another container or another time."""

    def make(file: Path) -> None:
        first = file.with_name(f"first{suffix}")
        encoded(bf=3, g=48)(first)
        run(*before, "-i", str(first), "-c", "copy", *output, str(file))

    return make


IRREGULAR = {"vf": "select=lt(mod(n*7\\,11)\\,7)", "fps_mode": "vfr"}
FILES: dict[str, Callable[[Path], None]] = {
    "no_b_frames.mp4": encoded(bf=0),
    "b_frames.mp4": encoded(bf=3, g=48),
    "open_gop.mp4": encoded(**{"x264-params": "open-gop=1:bframes=8:b-pyramid=normal:keyint=40:b-adapt=2"}),
    "one_gop.mp4": encoded(g=1000, sc_threshold=0),
    "variable.mp4": encoded(bf=3, g=48, **IRREGULAR),
    "variable.mkv": encoded(bf=3, g=48, **IRREGULAR),
    "open_gop_hevc.mp4": encoded(
        vcodec="libx265", **{"x265-params": "log-level=none:open-gop=1:keyint=40:bframes=4", "tag:v": "hvc1"}
    ),
    "hidden_frames.webm": encoded(
        vcodec="libvpx-vp9", **{"b:v": 0, "auto-alt-ref": 1, "lag-in-frames": 25, "cpu-used": 5}
    ),
    "av1.mp4": encoded(vcodec="libsvtav1", preset=12, crf=30, g=60),
    "packed.avi": encoded(vcodec="mpeg4", bf=2, **{"q:v": 3}),
    "edit_list.mp4": copied(before=("-ss", "1.3")),
    "turned.mp4": copied(before=("-display_rotation:v:0", "90")),
    "transport.ts": copied("-f", "mpegts"),
    "begins_late.ts": copied("-copyts", "-f", "mpegts", before=("-ss", "1.1"), suffix=".ts"),
    "delayed.mp4": copied(before=("-itsoffset", "3.7")),
    "fragmented.mp4": copied("-movflags", "frag_keyframe+empty_moov"),
    "ten_bit.mp4": encoded(pix_fmt="yuv420p10le"),
    "full_range.mp4": encoded(vf="scale=out_range=full:out_color_matrix=bt709", color_range="pc", colorspace="bt709"),
    "bt709.mp4": encoded(vf="scale=out_color_matrix=bt709", colorspace="bt709", color_primaries="bt709"),
    "wide_pixels.mp4": encoded(vf="setsar=5/4"),
    "interlaced.mkv": encoded(vcodec="mpeg2video", flags="+ildct+ilme", **{"q:v": 3}),
}


@dataclass(frozen=True)
class Shown:
    """What the ffmpeg program shows: the number of each frame and its time in seconds."""

    numbers: list[int]
    times_s: list[Fraction]


def shown(file: Path) -> Shown:
    """Decode with the program, every frame once, not turned."""
    words = [
        FFMPEG,
        "-nostdin",
        "-noautorotate",
        "-copyts",
        "-i",
        str(file),
        "-map",
        "0:v:0",
        "-fps_mode",
        "passthrough",
    ]
    words += ["-enc_time_base", "demux", "-vf", "showinfo", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    done = subprocess.run(words, capture_output=True, check=True)
    told = done.stderr.decode()
    base = Fraction(*map(int, re.search(r"config in time_base: (\d+)/(\d+)", told).groups()))
    times_s = [int(pts) * base for pts in re.findall(r"\] n: *\d+ pts: *(-?\d+)", told)]
    pictures = np.frombuffer(done.stdout, np.uint8).reshape(-1, HEIGHT, WIDTH)
    assert len(pictures) == len(times_s)
    return Shown(numbers_of(pictures), times_s)


@pytest.fixture(scope="module", params=FILES, ids=list(FILES))
def file(request, tmp_path_factory):
    made = tmp_path_factory.mktemp("numbered") / request.param
    try:
        FILES[request.param](made)
    except (ffmpeg.Error, subprocess.CalledProcessError) as error:
        if b"Unknown encoder" in (error.stderr or b""):
            pytest.skip(f"this ffmpeg has no encoder for {request.param}")
        raise
    return made


def test_prepare_sees_the_frames_and_times_that_the_ffmpeg_program_shows(file):
    right = shown(file)
    assert len(right.numbers) > 90
    opened = open_source(file)
    with opened.container:
        seen = [(pts, frame.to_ndarray(format="gray")) for pts, frame in opened.frames()]
        times_s = [pts * opened.time_base for pts, _ in seen]
    assert numbers_of(np.stack([picture for _, picture in seen])) == right.numbers
    began, right_began = times_s[0], right.times_s[0]
    off = [abs((time - began) - (wanted - right_began)) for time, wanted in zip(times_s, right.times_s, strict=True)]
    assert max(off) <= Fraction(1, 1000)


def test_a_clip_holds_the_frames_on_show_at_its_times(file):
    right = shown(file)
    times_s = np.array([float(time - right.times_s[0]) for time in right.times_s])
    source = Source("s" * 32, file.name, file)
    spans = spans_of(source, file)
    assert len(spans) >= 3
    for row, span in zip(cut(file, spans, upright_settings(file)), spans, strict=True):
        wanted_s = span["start_s"] + sample_times(SETTINGS)
        on_show = [right.numbers[np.searchsorted(times_s, time + 2e-3, side="right") - 1] for time in wanted_s]
        assert numbers_of(turned_back(file, decoded(row["media"]))) == on_show


def test_pictures_are_the_same_when_only_what_they_need_is_decoded(file):
    spans, settings = spans_of(Source("s" * 32, file.name, file), file), upright_settings(file)
    right = {span["clip_id"]: shown for span, shown in clips._in_order(file, [(span, settings) for span in spans])}
    for some in (spans, spans[-1:], spans[1::2]):
        found = [(span["clip_id"], shown) for span, shown in pictures(file, some, settings)]
        assert [clip for clip, _ in found] == [span["clip_id"] for span in some]
        assert all(np.array_equal(shown, right[clip]) for clip, shown in found)


@pytest.mark.parametrize("name", ["b_frames.mp4", "open_gop.mp4", "edit_list.mp4", "delayed.mp4"])
def test_the_last_clip_costs_less_than_the_file(name, tmp_path):
    file = tmp_path / name
    FILES[name](file)
    spans = spans_of(Source("s" * 32, name, file), file)
    frames = take_decoded()
    assert len(list(clips._picked(file, [(span, SETTINGS) for span in spans]))) == len(spans)
    assert take_decoded() < frames
    assert len(list(clips._picked(file, [(spans[-1], SETTINGS)]))) == 1
    assert take_decoded() < 0.75 * frames


def test_training_reads_any_frames_of_a_clip_in_any_order(file):
    source = Source("s" * 32, file.name, file)
    spans = spans_of(source, file)[:2]
    for row in cut(file, spans, upright_settings(file)):
        whole = numbers_of(turned_back(file, decoded(row["media"])))
        reader = decord.VideoReader(io.BytesIO(row["media"]), num_threads=1)
        for order in ([8, 0, 4, 4, 1], [3], [7, 8], list(range(8, -1, -1))):
            taken = turned_back(file, reader.get_batch(order).asnumpy())
            assert numbers_of(taken) == [whole[place] for place in order]


def spans_of(source: Source, file: Path) -> list[dict[str, Any]]:
    """Candidate clips one behind the other, as they go to be cut."""
    return [span | {"split": "train"} for span in analyze(source, upright_settings(file)).spans]


def upright_settings(file: Path) -> DataSettings:
    """Clips as large as the picture is shown, so that nothing is cropped and the bars stay readable."""
    if file.name.startswith("wide"):
        return SETTINGS.model_copy(update={"width": WIDTH * 5 // 4})
    if file.name.startswith("turned"):
        return SETTINGS.model_copy(update={"height": WIDTH, "width": HEIGHT})
    return SETTINGS


def turned_back(file: Path, pictures: np.ndarray) -> np.ndarray:
    """As stored: upright pictures of the turned file are turned against its rotation, wide ones made narrow."""
    if file.name.startswith("wide"):
        return pictures[:, :, (np.arange(WIDTH) * 5 + 2) // 4]
    if not file.name.startswith("turned"):
        return pictures
    with av.open(str(file)) as container:
        rotation = next(container.decode(video=0)).rotation
    return np.rot90(pictures, k=-rotation // 90 % 4, axes=(1, 2))


def decoded(media: bytes) -> np.ndarray:
    """A clip from first to last, by the decoder that sources are read with."""
    with av.open(io.BytesIO(media)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
