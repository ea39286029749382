from types import SimpleNamespace

import ffmpeg
import imageio_ffmpeg
import numpy as np
import pytest

from data_prep.decode import open_source
from data_prep.duplicates.fingerprint import Fingerprinter

RATE, FRAMES, HEIGHT, WIDTH = 24, 120, 96, 160


def film(seed, *, frames=FRAMES):
    """Smooth clouds that come and go before others, with three cuts: uint8 [T, 96, 160, 3]."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(4):
        waves = rng.normal(size=(3, 2, 12, 12)) / (1 + np.add.outer(np.arange(12), np.arange(12)))
        for t in range(frames // 4):
            tone = waves[:, 0] + 0.4 * waves[:, 1] * np.sin(0.6 * t)
            pictures.append(np.stack([basis(HEIGHT).T @ plane @ basis(WIDTH) for plane in tone], axis=-1))
    video = np.array(pictures)
    return (128 + 45 * video / video.std()).clip(16, 240).astype(np.uint8)


def basis(size):
    return np.cos(np.pi * np.arange(12)[:, None] * (np.arange(size) + 0.5) / size)


def write(file, video, *, rate=RATE, **options):
    height, width = video.shape[1:3]
    source = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=rate)
    options = {"vcodec": "libx264", "pix_fmt": "yuv420p", "crf": 18, "preset": "ultrafast", "threads": 1} | options
    source.output(str(file), loglevel="error", **options).overwrite_output().run(
        cmd=imageio_ffmpeg.get_ffmpeg_exe(), input=video.tobytes()
    )
    return file


def convert(file, copy, *, before=(), **options):
    source = ffmpeg.input(str(file), **dict(before))
    options = {"vcodec": "libx264", "pix_fmt": "yuv420p", "crf": 24, "preset": "ultrafast", "threads": 1} | options
    source.output(str(copy), loglevel="error", **options).overwrite_output().run(cmd=imageio_ffmpeg.get_ffmpeg_exe())
    return copy


def fingerprint(file):
    opened, seen = open_source(file), Fingerprinter()
    with opened.container:
        for pts, frame in opened.frames():
            seen.look(frame, float((pts - opened.first_pts) * opened.time_base), opened.rotation)
    return seen.result()


COPIES = {
    "smaller": {"vf": "scale=64:48"},
    "larger": {"vf": "scale=480:270"},
    "coarse": {"crf": 38},
    "brighter": {"vf": "eq=brightness=0.08:contrast=0.9"},
    "mirrored": {"vf": "hflip"},
    "letterboxed": {"vf": "pad=iw:ih*4/3:0:(oh-ih)/2"},
    "trimmed": {"ss": 1.1, "t": 3},
    "slower": {"vf": "fps=15"},
    "cropped": {"vf": "crop=iw*0.9:ih*0.9"},
}


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    return [write(folder / f"film-{seed}.mp4", film(seed)) for seed in range(3)]


@pytest.fixture(scope="session")
def copies(originals, tmp_path_factory):
    """Files by what was done to the first original."""
    folder = tmp_path_factory.mktemp("copies")
    return {name: convert(originals[0], folder / f"{name}.mp4", **options) for name, options in COPIES.items()}


@pytest.fixture(scope="session")
def films():
    """What tests here make and read videos with."""
    return SimpleNamespace(film=film, write=write, convert=convert, fingerprint=fingerprint, copies=COPIES)
