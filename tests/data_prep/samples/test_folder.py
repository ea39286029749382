"""Laws of a folder of sample videos."""

import itertools
import json
import re
from fractions import Fraction

import av
import numpy as np
import pytest

from data_prep.samples import make
from vidgen_core import scene
from vidgen_core.errors import VidgenError

COUNT = 96  # three blocks: each kind of broken file once


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    directory = tmp_path_factory.mktemp("samples")
    return directory, make(directory, count=COUNT, seed=0)


@pytest.fixture(scope="module")
def truths(folder):
    directory, _ = folder
    return [json.loads(file.read_text()) for file in sorted(directory.glob("*.truth.json"))]


def decode(file):
    with av.open(str(file)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def seconds(clock):
    hours, minutes, rest = clock.split(":")
    return Fraction(rest) + 60 * int(minutes) + 3600 * int(hours)


def test_it_makes_as_many_files_as_asked_for_and_nothing_half_done(folder):
    directory, made = folder
    videos = sorted(file for file in directory.iterdir() if file.suffix in (".mp4", ".webm"))
    assert tuple(videos) == made.files
    assert len(videos) == COUNT
    assert not list(directory.glob(".*"))
    assert made.seconds < 60


def test_every_whole_file_has_exactly_the_frames_size_and_rate_of_its_truth(folder, truths):
    directory, made = folder
    whole = [truth for truth in truths if truth["broken"] is None]
    assert len(whole) == COUNT - len(made.broken)
    for truth in whole:
        with av.open(str(directory / truth["file"])) as container:
            stream = container.streams.video[0]
            assert str(stream.average_rate) == truth["frame_rate"]
            assert (stream.width, stream.height) == (truth["width"], truth["height"])
            assert stream.codec_context.name in ("h264", "vp9", "libvpx-vp9")
            assert sum(1 for _ in container.decode(stream)) == truth["frames"]
    assert made.video_s == pytest.approx(sum(truth["frames"] for truth in whole) / 24)
    assert made.shots == sum(len(truth["shots"]) for truth in whole)


def test_the_broken_files_cannot_be_decoded_and_say_so_in_their_truth(folder, truths):
    directory, made = folder
    broken = {truth["file"]: truth["broken"] for truth in truths if truth["broken"]}
    assert sorted(broken) == [file.name for file in made.broken]
    assert sorted(broken.values()) == ["empty", "garbage", "no index"]
    for name in broken:
        with pytest.raises(av.error.FFmpegError):
            decode(directory / name)


def test_hard_cuts_are_where_the_truth_says(folder, truths):
    directory, _ = folder
    for truth in [truth for truth in truths if truth["broken"] is None][:12]:
        drawn = np.stack(decode(directory / truth["file"])).astype(np.float32)
        jump = np.abs(np.diff(drawn, axis=0)).mean((1, 2, 3))
        shown = [jump[cut - 1] for cut in truth["cuts"]]
        inside = np.concatenate([jump[shot["start"] + 1 : shot["stop"] - 1] for shot in truth["shots"]])
        assert min(shown, default=99) > 2 * inside.max()


def test_the_decoded_shape_stands_where_the_truth_says(folder, truths):
    directory, _ = folder
    bars = {(truth["width"], truth["height"]): truth for truth in truths if truth["broken"] is None}
    assert set(bars) == {(128, 128), (128, 160), (160, 128)}
    for truth in bars.values():
        drawn = decode(directory / truth["file"])
        y, x = np.indices((truth["height"], truth["width"])) + 0.5
        for shot in truth["shots"]:
            for place in range(shot["start"], shot["stop"], 7):
                colored = np.ptp(drawn[place].astype(int), axis=-1) > 70
                seen = np.array([x[colored].mean(), y[colored].mean()])
                assert np.abs(seen - shot["centers_px"][place - shot["start"]]).max() < 1.5


def test_captions_stand_beside_each_whole_file_one_cue_a_shot_to_the_millisecond(folder, truths):
    directory, _ = folder
    for truth in [truth for truth in truths if truth["broken"] is None]:
        text = (directory / truth["file"]).with_suffix(".vtt").read_text()
        assert text.startswith("WEBVTT\n\n")
        cues = re.findall(r"^(\S+) --> (\S+)\n(.+)$", text, re.MULTILINE)
        assert [cue[2] for cue in cues] == [shot["caption"] for shot in truth["shots"]]
        for (start, stop, caption), shot in zip(cues, truth["shots"], strict=True):
            assert abs(seconds(start) - Fraction(shot["start"], 24)) <= Fraction(1, 2000)
            assert abs(seconds(stop) - Fraction(shot["stop"], 24)) <= Fraction(1, 2000)
            assert scene.parse(caption) is not None
        for (_, stop, _), (start, _, _) in itertools.pairwise(cues):
            assert seconds(stop) <= seconds(start)


def test_no_cue_covers_a_dissolve(truths):
    spans = [(truth, span) for truth in truths if truth["broken"] is None for span in truth["dissolves"]]
    assert len(spans) >= 20
    for truth, (start, stop) in spans:
        assert start < stop
        assert all(shot["stop"] <= start or shot["start"] >= stop for shot in truth["shots"])


def test_bytes_depend_on_the_seed_alone_and_a_longer_folder_begins_like_a_shorter_one(folder, tmp_path):
    directory, _ = folder
    make(tmp_path / "short", count=10, seed=0, workers=1)
    make(tmp_path / "other", count=2, seed=1)
    for file in (tmp_path / "short").iterdir():
        assert file.read_bytes() == (directory / file.name).read_bytes()
    assert {file.suffix for file in (tmp_path / "short").iterdir()} == {".mp4", ".webm", ".vtt", ".json"}
    for file in (tmp_path / "other").glob("*.truth.json"):
        assert file.read_bytes() != (directory / file.name).read_bytes()


def test_progress_is_told_after_each_file(tmp_path):
    told = []
    make(tmp_path, count=3, workers=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_count_below_one_gets_a_sentence(tmp_path):
    with pytest.raises(VidgenError, match="1 or more"):
        make(tmp_path, count=0)


def test_a_file_in_place_of_the_folder_gets_a_sentence(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(VidgenError, match="No folder can be made here"):
        make(tmp_path / "taken", count=1)


def test_when_ffmpeg_fails_there_is_a_sentence_and_no_half_written_video(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/bin/false")
    with pytest.raises(VidgenError, match="ffmpeg could not write .*shapes-00000.mp4"):
        make(tmp_path, count=1)
    assert not [file for file in tmp_path.iterdir() if file.suffix not in (".json", ".vtt")]
