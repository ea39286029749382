"""Damaged files: every picture that the ffmpeg program rescues is rescued, and every file is accounted for."""

import random
import shutil
import subprocess
from pathlib import Path

import ffmpeg
import imageio_ffmpeg
import numpy as np
import pytest

from data_prep.decode import Undecodable, open_packets, open_source
from data_prep.packets import read_packets
from data_prep.prepare import prepare
from data_prep.run import PoolRunner
from data_prep.select import Select
from data_prep.settings import DataSettings
from data_prep.tables import Tables
from vidgen_core.errors import VidgenError

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
HEAD_BYTES, TAIL_BYTES = 4096, 8192
KINDS = {
    "fast_start.mp4": {"vcodec": "libx264", "movflags": "faststart", "g": 24},
    "index_behind.mp4": {"vcodec": "libx264", "g": 24},
    "fragmented.mp4": {"vcodec": "libx264", "g": 12, "movflags": "frag_keyframe+empty_moov"},
    "matroska.mkv": {"vcodec": "libx264", "g": 24},
    "vp9.webm": {"vcodec": "libvpx-vp9", "cpu-used": 8, "deadline": "realtime", "g": 24},
    "stream.ts": {"vcodec": "mpeg2video", "g": 12},
    "old.avi": {"vcodec": "mpeg4", "g": 12},
}


def flipped(data: bytearray, rng: random.Random) -> None:
    """One to forty bits, most of them where containers keep what they are."""
    for _ in range(rng.choice([1, 5, 40])):
        head, tail = (0, min(HEAD_BYTES, len(data))), (max(0, len(data) - TAIL_BYTES), len(data))
        low, high = rng.choice([head, tail, (0, len(data)), (0, len(data))])
        data[rng.randrange(low, high)] ^= 1 << rng.randrange(8)


def damage(files: list[Path], folder: Path, count: int, seed: int) -> list[Path]:
    """Copies of files with flipped bits, without their end, or with the head of another."""
    rng, made = random.Random(seed), []
    folder.mkdir()
    for number in range(count):
        base = files[number % len(files)]
        data = bytearray(base.read_bytes())
        kind = rng.choice(["flipped", "flipped", "cut", "headed"])
        if kind == "flipped":
            flipped(data, rng)
        elif kind == "cut":
            del data[int(len(data) * rng.uniform(0.05, 0.98)) :]
        else:
            size = rng.choice([64, 1024, HEAD_BYTES])
            data[:size] = rng.choice(files).read_bytes()[:size]
        made.append(folder / f"{number:03d}_{kind}_{base.name}")
        made[-1].write_bytes(data)
    return made


def rescued_by_program(file: Path) -> int:
    words = [FFMPEG, "-v", "quiet", "-nostdin", "-threads", "1", "-i", str(file), "-map", "0:v:0"]
    words += ["-fps_mode", "passthrough", "-vf", "scale=2:2", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    return len(subprocess.run(words, capture_output=True, check=False, timeout=60).stdout) // 4


def rescued(file: Path) -> int:
    try:
        opened = open_source(file)
    except Undecodable:
        return 0
    with opened.container:
        return sum(1 for _ in opened.frames())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 256, (1, 48, 64, 3), dtype=np.uint8)
    frames = np.concatenate([np.roll(ground, 2 * frame, axis=2) for frame in range(72)])
    for name, options in KINDS.items():
        raw = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s="64x48", framerate=24)
        made = raw.output(str(folder / name), pix_fmt="yuv420p", loglevel="error", **options)
        made.run(cmd=FFMPEG, input=frames.tobytes(), capture_stderr=True)
    return sorted(folder.iterdir())


def test_each_picture_that_the_ffmpeg_program_rescues_is_rescued(whole, tmp_path):
    damaged = damage(whole, tmp_path / "damaged", 70, seed=5)
    counts = {file.name: (rescued(file), rescued_by_program(file)) for file in damaged}
    lost = {name: pair for name, pair in counts.items() if pair[0] < pair[1]}
    assert lost == {}
    assert sum(ours for ours, _ in counts.values()) > 70 * 72 / 4


def told(opening, file):
    """All that packets tell of a file, or why it has none."""
    try:
        opened = opening(file)
    except Undecodable as error:
        return error.reason
    with opened.container:
        context, stream = opened.stream.codec_context, opened.stream
        head = (stream.index, context.name, context.width, context.height, stream.average_rate, opened.sar)
        packets = read_packets(opened)
        every = (packets.pts, packets.shown, packets.fresh, packets.keys)
        return head, opened.time_base, packets.whole, [one.tolist() for one in every]


def test_packets_tell_the_same_whether_or_not_frames_were_decoded_to_open_a_file(whole, tmp_path):
    files = [*whole, *damage(whole, tmp_path / "damaged", 140, seed=6)]
    assert [told(open_packets, file) for file in files] == [told(open_source, file) for file in files]


@pytest.mark.slow
def test_500_damaged_copies_of_real_files_are_all_accounted_for(shared_data, tmp_path):
    small = [file for file in sorted((shared_data / "videos").iterdir()) if 9_000 < file.stat().st_size < 400_000]
    damage(small, tmp_path / "videos", 500, seed=7)
    settings = DataSettings(select=Select(need_caption=False), source_deadline_s=60.0)
    try:
        done = prepare(tmp_path / "videos", Tables(tmp_path / "tables"), settings, PoolRunner())
        counts = {row.name: row.rows for row in done.funnel}
        assert counts["files"] == 500
        assert counts["sources committed"] + counts["sources rejected"] == 500
        assert counts["sources committed"] > 250
    except VidgenError as error:
        pytest.fail(f"bad input cost good work: {error}")
    finally:
        shutil.rmtree(tmp_path / "videos")
