"""Laws of bounds: a source that wants too much memory, or is gone, costs itself and nothing else."""

import resource

import ffmpeg
import imageio_ffmpeg
import numpy as np
import pytest

from data_prep import bounds
from data_prep.audio import AUDIO
from data_prep.bounds import bounded_memory
from data_prep.prepare import prepare
from data_prep.samples import make
from data_prep.settings import DataSettings
from data_prep.tables import Tables
from tests.data_prep.runners import InProcess

MIB = 2**20


def test_what_fits_is_given_what_does_not_is_refused_and_the_bound_ends_with_its_block():
    before = resource.getrlimit(resource.RLIMIT_AS)
    with bounded_memory(400 * MIB):
        assert np.ones(100 * MIB, np.uint8).sum() == 100 * MIB
        with pytest.raises(MemoryError):
            np.ones(600 * MIB, np.uint8)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert np.ones(600 * MIB, np.uint8)[0] == 1


@pytest.fixture(name="videos")
def _videos(tmp_path):
    folder = tmp_path / "videos"
    make(folder, count=2, seed=3)
    return folder


def test_a_picture_too_large_for_its_memory_costs_its_source_alone(videos, tmp_path, monkeypatch):
    huge = ffmpeg.input("color=gray:s=14000x14000:r=1:d=1", f="lavfi").output(str(videos / "huge.mkv"), vcodec="mjpeg")
    huge.global_args("-loglevel", "error").run(cmd=imageio_ffmpeg.get_ffmpeg_exe())
    monkeypatch.setattr(bounds, "_MOST_BYTES", 60 * MIB)
    tables = Tables(tmp_path / "tables")
    prepare(videos, tables, DataSettings(), InProcess())
    (row,) = tables.read("dead").to_pylist()
    assert (row["uri"], row["reason"], row["attempts"]) == ("huge.mkv", "too_large", 1)
    assert len(tables.read("sources")) == 2


def test_a_file_that_vanishes_between_passes_costs_what_was_left_to_do_of_it(videos, tmp_path):
    victim = min(videos.glob("*.mp4"))

    class Vanishing(InProcess):
        def map(self, function, items, *, deadline_s=0.0):
            if function.func.__name__ == "_keep_unit":
                victim.unlink()
            yield from super().map(function, items, deadline_s=deadline_s)

    tables = Tables(tmp_path / "tables")
    prepare(videos, tables, DataSettings(audio="keep"), Vanishing())
    lost = [row for row in tables.read("rejects").to_pylist() if row["stage"] == "audio"]
    assert [(row["level"], row["uri"], row["reason"]) for row in lost] == [("part", victim.name, "gone")]
    assert len(tables.read(AUDIO)) > 0
