"""Laws of the export: the frames of each kept shot and no others, at their times, as they look when played."""

import json
import subprocess
from fractions import Fraction

import av
import imageio_ffmpeg
import numpy as np
import pytest

from data_prep.decode import open_source, take_decoded
from data_prep.prepare import prepare
from data_prep.samples import make
from data_prep.settings import DataSettings
from data_prep.shot_files import MANIFEST, Encoding, Shot, encode_shots, export, kept_shots
from data_prep.sources import identify, list_files
from data_prep.tables import Tables
from tests.data_prep.runners import InProcess

HEIGHT, WIDTH, FRAMES = 48, 80, 60
TICK = Fraction(1, 1000)
# Of a variable rate.
TIMES = np.cumsum(np.random.default_rng(0).integers(10, 90, FRAMES)).tolist()


def picture(number: int) -> np.ndarray:
    """The number as the gray of the upper left quarter, on a ground that tells left from right and top from bottom."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    ground = (40 + columns + rows // 2).astype(np.uint8)
    ground[: HEIGHT // 2, : WIDTH // 2] = 20 + 3 * number
    return np.repeat(ground[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    file = tmp_path_factory.mktemp("numbered") / "numbered.mp4"
    with av.open(file, "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "4", "bf": "3", "g": "17"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = TICK
        for number, time in enumerate(TIMES):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = time, TICK
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file


def ticks(file):
    opened = open_source(file)
    with opened.container:
        return [pts for pts, _ in opened.frames()], opened.time_base


def shots_of(file, bounds, box=(0, 0, WIDTH, HEIGHT)):
    pts, _ = ticks(file)
    return [Shot("s", place, pts[first], pts[last], box, ()) for place, (first, last) in enumerate(bounds)]


def shown(file):
    """Seconds from the first frame, and pictures as a player shows them."""
    with av.open(file) as opened:
        frames = list(opened.decode(video=0))
        assert all(frame.rotation == 0 for frame in frames)
        return [float((f.pts - frames[0].pts) * f.time_base) for f in frames], [
            f.to_ndarray(format="rgb24") for f in frames
        ]


def grays(pictures):
    return [round((float(one[4 : HEIGHT // 2 - 4, 4 : WIDTH // 2 - 4].mean()) - 20) / 3) for one in pictures]


BOUNDS = [(0, 6), (7, 30), (35, FRAMES - 1)]


def test_a_shot_has_its_frames_and_no_others_at_their_times(numbered, tmp_path):
    shots = shots_of(numbered, BOUNDS)
    assert encode_shots(numbered, shots, tmp_path, Encoding()) == sum(last + 1 - first for first, last in BOUNDS)
    pts, tick_s = ticks(numbered)
    for shot, (first, last) in zip(shots, BOUNDS, strict=True):
        times, pictures = shown(tmp_path / shot.file_name(Encoding()))
        assert grays(pictures) == list(range(first, last + 1))
        assert times == pytest.approx([float((pts[n] - pts[first]) * tick_s) for n in range(first, last + 1)], abs=1e-4)
        errors = np.stack(pictures).astype(float) - np.stack([picture(n) for n in range(first, last + 1)])
        assert 10 * np.log10(255**2 / (errors**2).mean()) > 35


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_shot_of_a_turned_file_stands_upright(numbered, tmp_path, turn):
    turned = tmp_path / "turned.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", str(turn), "-i", str(numbered)]
    subprocess.run([*command, "-c", "copy", str(turned)], check=True)
    sides = (0, 0, HEIGHT, WIDTH) if turn % 180 else (0, 0, WIDTH, HEIGHT)
    [shot] = shots_of(turned, [(3, 9)], sides)
    encode_shots(turned, [shot], tmp_path, Encoding())
    _, pictures = shown(tmp_path / shot.file_name(Encoding()))
    wanted = np.stack([np.rot90(picture(number), turn // 90) for number in range(3, 10)])
    assert np.abs(np.stack(pictures).astype(float) - wanted).mean() < 4


def test_a_shot_is_cut_to_what_its_spans_keep(numbered, tmp_path):
    x, y, width, height = box = (10, 7, 61, 32)
    [shot] = shots_of(numbered, [(0, 20)], box)
    encode_shots(numbered, [shot], tmp_path, Encoding(crf=10))
    _, pictures = shown(tmp_path / shot.file_name(Encoding(crf=10)))
    assert pictures[0].shape == (height, width - 1, 3)
    wanted = picture(12)[y : y + height, x : x + width - 1]
    assert np.abs(pictures[12].astype(float) - wanted).mean() < 4


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    make(folder, count=4, seed=5)
    tables = Tables(tmp_path_factory.mktemp("home") / "tables")
    prepare(folder, tables, DataSettings(), InProcess())
    return tables, identify(list_files(folder), folder)


def test_each_clip_is_in_one_exported_shot_and_nothing_is_done_twice(prepared, tmp_path):
    tables, sources = prepared
    done = export(tables, sources, tmp_path, encoding=Encoding(), runner=InProcess())
    assert (done.written, done.reused, done.lost) == (len(kept_shots(tables)), 0, {})
    lines = [json.loads(line) for line in (tmp_path / MANIFEST).read_text().splitlines()]
    listed = sorted(clip["clip_id"] for line in lines for clip in line["clips"])
    assert listed == sorted(tables.read("clips", ["clip_id"])["clip_id"].to_pylist())
    assert {line["file"] for line in lines} == {file.name for file in tmp_path.glob("*.mp4")}
    first = (tmp_path / MANIFEST).read_bytes()
    (tmp_path / lines[0]["file"]).unlink()
    runner = InProcess()
    again = export(tables, sources, tmp_path, encoding=Encoding(), runner=runner)
    assert (again.written, again.reused) == (1, done.written - 1)
    assert runner.ran == [lines[0]["source"]]
    assert (tmp_path / MANIFEST).read_bytes() == first, "the bytes of a shot are a function of the shot"


def test_a_source_that_is_gone_costs_its_own_shots_only(prepared, tmp_path):
    tables, sources = prepared
    gone = kept_shots(tables)[0].source_id
    left = [source for source in sources if source.source_id != gone]
    take_decoded()
    done = export(tables, left, tmp_path, encoding=Encoding(), runner=InProcess())
    assert list(done.lost) == [gone]
    assert done.written == len([shot for shot in kept_shots(tables) if shot.source_id != gone]) > 0
