"""Laws of kept sound: right to the sample, whatever containers do to time, and its setting touches nothing else."""

import io
from fractions import Fraction

import av
import ffmpeg
import imageio_ffmpeg
import numpy as np
import pytest

from data_prep.audio import AUDIO, Sound, sounds, to_flac
from data_prep.decode import open_source
from data_prep.export import export_clip
from data_prep.plan import plan
from data_prep.prepare import prepare
from data_prep.select import RULES, Select
from data_prep.settings import DataSettings
from data_prep.tables import Tables
from tests.data_prep.runners import InProcess

RATE = 48000
ALL = Select(**dict.fromkeys(rule.name for rule in RULES), need_caption=False)
SETTINGS = DataSettings(select=ALL, audio="keep")
CLICKS_S = (0.75, 1.5, 2.25, 2.875)
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def from_flac(data):
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.audio[0]
        parts = [frame.to_ndarray().reshape(-1, stream.channels).T for frame in container.decode(stream)]
        return Sound(np.concatenate(parts, axis=1).astype(np.int16), stream.rate)


def film(file, *, sound_from_s=0.0, seconds=4, **options):
    """Moving noise with a white flash and a click at each of CLICKS_S of the common clock."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 60, (seconds * 24, 64, 64, 3), dtype=np.uint8)
    samples = np.zeros(round((seconds - sound_from_s) * RATE), np.int16)
    for at_s in CLICKS_S:
        pictures[round(at_s * 24)] = 255
        place = round((at_s - sound_from_s) * RATE)
        samples[place : place + 64] = 20000 * np.hanning(64)
    raw = file.with_suffix(".raw")
    raw.write_bytes(samples.tobytes())
    video = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s="64x64", framerate=24)
    audio = ffmpeg.input(str(raw), format="s16le", ar=RATE, ac=1).filter("asetpts", f"PTS+{sound_from_s}/TB")
    out = ffmpeg.output(video, audio, str(file), pix_fmt="yuv420p", loglevel="error", **options)
    out.run(cmd=FFMPEG, input=pictures.tobytes(), overwrite_output=True)
    raw.unlink()
    return file


def clicks(sound):
    """Where the clicks peak, in samples of the sound."""
    loud = np.abs(sound.samples[0].astype(int))
    places = []
    while loud.max() > 6000:
        top = int(loud.argmax())
        places.append(top)
        loud[max(0, top - 2000) : top + 2000] = 0
    return sorted(places)


def a_span(file, first):
    """A span that begins at the frame of this number."""
    opened = open_source(file)
    with opened.container:
        pts = [pts for pts, _ in opened.frames()]
    start_s = (pts[first] - pts[0]) * opened.time_base
    return {"clip_id": "c", "start_pts": pts[first], "time_base": str(opened.time_base), "start_s": start_s}


CASES = {
    "aac in mp4, with an edit list for its priming": ("mp4", {"acodec": "aac", "audio_bitrate": "192k"}, 0.0, 2),
    "pcm in mov": ("mov", {"acodec": "pcm_s16le"}, 0.0, 1),
    "sound that begins later, by an edit list": ("mp4", {"acodec": "aac", "audio_bitrate": "192k"}, 0.5, 2),
    "all of it begins at 10 s": ("ts", {"acodec": "aac", "audio_bitrate": "192k", "output_ts_offset": 10}, 0.0, 2),
    "opus in matroska, with pre-skip and a clock of milliseconds": ("mkv", {"acodec": "libopus"}, 0.0, 24),
    # AVI cannot tell that the first 1105 samples are the encoder's; the ffmpeg program is off by as much.
    "mp3 in avi": ("avi", {"acodec": "libmp3lame"}, 0.0, 1105),
    "flac in matroska": ("mkv", {"acodec": "flac"}, 0.0, 24),
}


@pytest.mark.parametrize("case", CASES)
def test_a_click_comes_back_at_its_sample(case, tmp_path):
    suffix, options, sound_from_s, tolerance = CASES[case]
    file = film(tmp_path / f"film.{suffix}", sound_from_s=sound_from_s, **options)
    span = a_span(file, 12)  # at about half a second
    ((_, sound),) = sounds(file, [(span, Fraction(2))])
    assert sound.rate == RATE
    assert sound.samples.shape == (1, 2 * RATE)
    wanted = [round((at_s - span["start_s"]) * RATE) + 32 for at_s in CLICKS_S if at_s < span["start_s"] + 2]
    found = clicks(sound)
    assert np.abs(np.subtract(found, wanted)).max() <= tolerance


def test_lossless_sound_is_the_very_samples(tmp_path):
    rng = np.random.default_rng(1)
    file = film(tmp_path / "film.mov", acodec="pcm_s16le")
    with av.open(str(file)) as container:
        whole = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    for first in rng.integers(0, 60, 4):
        ((_, sound),) = sounds(file, [(a_span(file, int(first)), Fraction(9, 8))])
        at = int(first) * RATE // 24
        assert np.array_equal(sound.samples, whole[:, at : at + RATE * 9 // 8])


@pytest.mark.parametrize("channels", range(1, 9))
def test_flac_gives_back_what_it_was_given_and_the_same_bytes(channels):
    samples = np.random.default_rng(2).integers(-32768, 32768, (channels, 10_007), dtype=np.int16)
    data = to_flac(Sound(samples, 44_100))
    back = from_flac(data)
    assert np.array_equal(back.samples, samples)
    assert back.rate == 44_100
    assert data == to_flac(Sound(samples, 44_100))


def test_where_sound_ends_early_there_is_silence_and_where_there_is_none_null(tmp_path):
    file = film(tmp_path / "film.mov", sound_from_s=1.0, acodec="pcm_s16le")
    early, late = a_span(file, 0), a_span(file, 30)
    (_, none), (_, some) = sounds(file, [(early, Fraction(1)), (late, Fraction(1))])
    assert none is None
    assert some.samples.any()
    ((_, mixed),) = sounds(file, [(a_span(file, 12), Fraction(2))])
    assert not mixed.samples[:, : RATE // 2 - 64].any()


@pytest.fixture(name="videos")
def _videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    film(folder / "loud.mp4", acodec="aac")
    silent = film(folder / "silent.mp4", acodec="aac", seconds=3)
    muted = folder / "muted.mp4"
    ffmpeg.input(str(silent)).video.output(str(muted), vcodec="copy", loglevel="error").run(cmd=FFMPEG)
    silent.unlink()
    return folder


def test_asking_for_sound_encodes_no_picture_and_no_more_gives_the_release_without_it(videos, tmp_path):
    tables = Tables(tmp_path / "tables")
    without = SETTINGS.model_copy(update={"audio": "none"})
    before = prepare(videos, tables, without, InProcess())
    step = next(step for step in plan(videos, tables, SETTINGS).steps if step.name == "keep sound")
    runner = InProcess()
    kept = prepare(videos, tables, SETTINGS, runner)
    rows = tables.read(AUDIO).to_pylist()
    assert sorted(set(runner.ran)) == ["loud.mp4", "muted.mp4"]
    assert step.new == len(rows) == len(tables.read("clips"))
    names = {row["source_id"]: row["uri"] for row in tables.read("sources").to_pylist()}
    assert {names[row["source_id"]] for row in rows if row["audio"] is None} == {"muted.mp4"}
    assert {row["samples"] for row in rows if row["audio"] is not None} == {RATE * 9 // 8}
    assert {name: kept.release.tables[name].digest for name in before.release.tables} == {
        name: state.digest for name, state in before.release.tables.items()
    }
    again = InProcess()
    assert prepare(videos, tables, SETTINGS, again).release == kept.release
    assert again.ran == []
    assert prepare(videos, tables, without, InProcess()).release.digest == before.release.digest


def test_the_sound_of_a_clip_is_as_long_as_its_own_shape(videos, tmp_path):
    tables = Tables(tmp_path / "tables")
    several = DataSettings(select=ALL, audio="keep", shapes=({"frames": 17, "height": 32, "width": 32},))
    prepare(videos, tables, several, InProcess())
    frames = {row["clip_id"]: row["frames"] for row in tables.read("clips").to_pylist()}
    heard = {row["clip_id"]: row["samples"] for row in tables.read(AUDIO).to_pylist() if row["audio"] is not None}
    assert sorted(heard.values()) == [RATE * 9 // 8, RATE * 17 // 8]
    assert all(samples == RATE * frames[clip] // 8 for clip, samples in heard.items())


def test_another_choice_keeps_the_sound_that_is_there(videos, tmp_path, monkeypatch):
    tables = Tables(tmp_path / "tables")
    prepare(videos, tables, SETTINGS, InProcess())
    sizes = tables.read("spans", ["clip_id", "source_id", "motion"]).to_pylist()
    middle = sorted(row["motion"] for row in sizes)[len(sizes) // 2]
    fewer = SETTINGS.model_copy(update={"select": ALL.model_copy(update={"min_motion": middle})})
    cut = []
    monkeypatch.setattr("data_prep.audio.sounds", lambda file, spans: cut.extend(spans) or ())
    prepare(videos, tables, fewer, InProcess())
    assert cut == []
    monkeypatch.undo()
    assert (
        prepare(videos, tables, SETTINGS, InProcess()).release.digest
        == prepare(videos, Tables(tmp_path / "fresh"), SETTINGS, InProcess()).release.digest
    )


def test_an_exported_clip_has_its_pictures_and_its_sound(videos, tmp_path):
    tables = Tables(tmp_path / "tables")
    prepare(videos, tables, SETTINGS, InProcess())
    row = next(row for row in tables.read(AUDIO).to_pylist() if row["audio"] is not None)
    for suffix in ("mp4", "mkv"):
        out = tmp_path / f"clip.{suffix}"
        assert "with sound" in export_clip(tables, row["clip_id"][:10], out)
        with av.open(str(out)) as container:
            assert len(list(container.decode(video=0))) == SETTINGS.frames
        with av.open(str(out)) as container:
            heard = [frame.to_ndarray().reshape(-1, row["channels"]).T for frame in container.decode(audio=0)]
        assert np.array_equal(np.concatenate(heard, axis=1), from_flac(row["audio"]).samples)
