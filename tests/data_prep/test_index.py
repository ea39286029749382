"""Laws of the index: what packets tell is what decoding shows, without decoding."""

import contextlib

import pytest

from data_prep.analyze import analyze
from data_prep.decode import Undecodable, take_decoded
from data_prep.index import hours, index, index_file
from data_prep.run import PoolRunner
from data_prep.samples import make
from data_prep.settings import DataSettings
from data_prep.sources import identify, list_files
from vidgen_core.errors import VidgenError


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("indexed")
    make(folder, count=4, seed=7)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def analyses(videos):
    """What the analysis finds in each file that it can read."""
    found = {}
    for source in identify(list_files(videos), videos):
        with contextlib.suppress(Undecodable):
            found[source.uri] = analyze(source, DataSettings())
    return found


def test_the_index_says_of_each_file_what_the_analysis_says_and_decodes_nothing(videos, analyses):
    for uri, analysis in analyses.items():
        take_decoded()
        told = index_file(videos / uri)
        assert take_decoded() == 0
        assert (told.frames, told.codec) == (analysis.source["frames"], analysis.source["codec"])
        assert told.duration_s == pytest.approx(analysis.source["duration_s"], abs=2e-3)
        assert 0 < told.keyframes <= told.frames
        assert told.shots is None


def test_the_look_counts_the_clips_that_the_analysis_finds(videos, analyses):
    told = index(videos, DataSettings(), PoolRunner(1), look=True)
    assert [one.uri for one in told] == sorted(one.uri for one in told)
    assert {one.uri for one in told if not one.problem} == set(analyses)
    found = sum(len(analysis.spans) for analysis in analyses.values())
    assert sum(one.clips or 0 for one in told) == pytest.approx(found, rel=0.1)
    assert hours(told) > 0


def test_a_folder_without_videos_is_a_sentence(tmp_path):
    with pytest.raises(VidgenError, match="empty"):
        index(tmp_path, DataSettings(), PoolRunner(1))
