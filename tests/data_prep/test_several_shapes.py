"""Laws of clips of several shapes: cut in the right one, coded, and learned from, all of them and once."""

import json
from collections import Counter

import ffmpeg
import imageio_ffmpeg
import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from data_prep.analyze import analyze
from data_prep.card import card
from data_prep.explain import explain_clip
from data_prep.index import index, index_file
from data_prep.latents import embed_captions, encode_latents
from data_prep.plan import plan
from data_prep.prepare import analysis_units, candidates, prepare
from data_prep.settings import DataSettings
from data_prep.sources import Source
from data_prep.tables import Tables
from tests.data_prep.runners import InProcess
from vidgen_core import weights
from vidgen_core.clip import decode_clips, encode
from vidgen_core.codecs import causal_vae
from vidgen_core.encoders.hashed_words import Config as HashedWords
from vidgen_core.errors import VidgenError
from vidgen_core.families import flow_matching
from vidgen_core.interfaces import Space
from vidgen_core.networks import factorized_dit
from vidgen_core.training.fit import fit
from vidgen_core.training.job import Data, Job
from vidgen_core.training.place import Place
from vidgen_core.training.samples import Samples
from vidgen_core.training.settings import TrainSettings

MAIN, WIDE, LONG = (9, 32, 32), (9, 32, 56), (17, 32, 32)
FURTHER = tuple(dict(zip(("frames", "height", "width"), shape, strict=True)) for shape in (WIDE, LONG))
PLAIN = DataSettings(audio="keep", held_out_share=0.0)
SETTINGS = PLAIN.model_copy(update={"shapes": DataSettings(shapes=FURTHER).shapes})
# Frames at 16 a second, height, width, black rows above and below; and what becomes of it.
FILMS = {
    "square": ((52, 64, 64, 0), [LONG, MAIN]),
    "short": ((20, 64, 64, 0), [MAIN]),
    "wide": ((40, 64, 112, 0), [WIDE, WIDE]),
    "boxed": ((40, 112, 112, 24), [WIDE, WIDE]),
}


def film(frames, height, width, bars, seed):
    """Blocks of noise that drift."""
    blocks = np.random.default_rng(seed).integers(40, 220, (height // 8 + frames, width // 8, 3), dtype=np.uint8)
    large = blocks.repeat(8, 0).repeat(8, 1)
    pictures = np.stack([large[2 * number : 2 * number + height] for number in range(frames)])
    pictures[:, :bars] = pictures[:, height - bars :] = 0
    return encode(pictures, "16")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for seed, (name, (made, _)) in enumerate(FILMS.items()):
        (folder / f"{name}.mp4").write_bytes(film(*made, seed))
        (folder / f"{name}.txt").write_text(f"{name} noise")
    return folder


@pytest.fixture(scope="module")
def prepared(videos, tmp_path_factory):
    tables = Tables(tmp_path_factory.mktemp("home") / "tables")
    return prepare(videos, tables, SETTINGS, InProcess()), tables


def shapes_by_film(tables):
    uris = {row["source_id"]: row["uri"].partition(".")[0] for row in tables.read("sources").to_pylist()}
    starts = {row["clip_id"]: row["start_pts"] for row in tables.read("spans").to_pylist()}
    found = {}
    for row in sorted(tables.read("clips").to_pylist(), key=lambda row: starts[row["clip_id"]]):
        found.setdefault(uris[row["source_id"]], []).append((row["frames"], row["height"], row["width"]))
    return found


def test_each_shot_is_cut_in_the_shape_that_fits_what_bars_leave_of_it(prepared):
    done, tables = prepared
    assert shapes_by_film(tables) == {name: shapes for name, (_, shapes) in FILMS.items()}
    for row in tables.read("clips").to_pylist():
        assert decode_clips([row["media"]]).shape == (1, row["frames"], row["height"], row["width"], 3)
        # Blocks of noise reach every edge where bars are gone and nothing is stretched.
        assert decode_clips([row["media"]])[0, :, [0, -1]].mean() > 60
    told = next(row.note for row in done.funnel if row.name == "clips")
    assert told == "2 of 9x32x32, 4 of 9x32x56, 1 of 17x32x32"
    assert len(tables.read("audio")) == 7


def test_a_clips_length_is_its_own_in_scores_card_story_and_index(prepared, videos):
    tables = prepared[1]
    spans, _ = candidates(tables, SETTINGS)
    assert pc.max(spans["distinct_share"]).as_py() == 1.0
    assert pc.min(spans["distinct_share"]).as_py() == 1.0
    clips = {"{frames}x{height}x{width}".format_map(row): row["clip_id"] for row in tables.read("clips").to_pylist()}
    assert {explain_clip(tables, clip, SETTINGS).span["shape"]: clip for clip in clips.values()} == clips
    page = card(tables, SETTINGS, None, {})
    assert "9 frames of 56" in page
    assert "17 frames of 32" in page
    # The quick look does not see bars.
    counts = {one.uri: one.clips for one in index(videos, SETTINGS, InProcess(), look=True)}
    assert counts == {"square.mp4": 2, "short.mp4": 1, "wide.mp4": 2, "boxed.mp4": 1}


def test_the_index_counts_the_clips_of_a_turned_video_in_the_shapes_of_what_is_shown(videos, tmp_path):
    file = tmp_path / "turned.mp4"
    lying = ffmpeg.input(str(videos / "wide.mp4"), display_rotation=90)
    lying.output(str(file), c="copy", loglevel="error").run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), capture_stderr=True)
    spans = analyze(Source("s" * 32, file.name, file), SETTINGS).spans
    assert index_file(file, SETTINGS).clips == len(spans) == 1


def test_doing_it_again_does_nothing_and_another_home_has_the_same_release(prepared, videos, tmp_path):
    done, tables = prepared
    runner = InProcess()
    reordered = SETTINGS.model_copy(update={"shapes": SETTINGS.shapes[::-1]})
    again = DataSettings.model_validate(reordered.model_dump())
    assert prepare(videos, tables, again, runner).release == done.release
    assert runner.ran == []
    assert prepare(videos, Tables(tmp_path / "tables"), SETTINGS, InProcess()).release.digest == done.release.digest


def test_a_shape_more_cuts_only_the_clips_that_it_changes(videos, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for name in ("short", "wide"):
        for file in videos.glob(f"{name}.*"):
            (few / file.name).write_bytes(file.read_bytes())
    tables, runner = Tables(tmp_path / "tables"), InProcess()
    plain = prepare(few, tables, PLAIN, InProcess())
    assert set(sum(shapes_by_film(tables).values(), [])) == {MAIN}
    before = {row["clip_id"]: row["media_sha256"] for row in tables.read("clips").to_pylist()}
    (analyze, *_) = plan(few, tables, SETTINGS).steps
    assert analyze.stale == {"setting shapes": 2}
    prepare(few, tables, SETTINGS, runner)
    # Both are analyzed; of the pictures and the sound of `short` nothing is other than it was.
    assert Counter(runner.ran) == {"wide.mp4": 3, "short.mp4": 1}
    after = {row["clip_id"]: row["media_sha256"] for row in tables.read("clips").to_pylist()}
    assert len(after) == 3
    kept = before.keys() & after.keys()
    assert len(kept) == 1
    assert all(before[clip] == after[clip] for clip in kept)
    assert all(not step.new and not step.stale for step in plan(few, tables, SETTINGS).steps)
    # And back: the release of one shape is what it was.
    assert prepare(few, tables, PLAIN, InProcess()).release.digest == plain.release.digest


def test_without_shapes_keys_are_made_of_what_they_always_were(videos):
    source = Source("s" * 32, "square.mp4", videos / "square.mp4")
    (plain,), (several,) = (analysis_units([source], one, {}) for one in (PLAIN, SETTINGS))
    assert set(json.loads(plain.made)["settings"]) == {"frames", "height", "width", "frame_rate", "shots"}
    assert plain.key != several.key


@pytest.fixture(scope="module")
def learnable(prepared, tmp_path_factory):
    """Data of the latents of all shapes."""
    tables, folder = prepared[1], tmp_path_factory.mktemp("codec")
    torch.manual_seed(0)
    config = causal_vae.Config()
    weights.save(folder / "codec", config.build().state_dict(), {"name": "causal_vae", "config": config.model_dump()})
    latents = encode_latents(tables, folder / "codec", InProcess())
    embeddings = embed_captions(tables, HashedWords(dim=16, tokens=4).build())
    return Data(
        kind="latents", files=tuple(tables.files(latents)), captions=tuple(tables.files("captions")),
        embeddings=tuple(tables.files(embeddings)),
    )  # fmt: skip


def job_of(data, samples, work_dir, family, config):
    main = min(samples.buckets)
    space = Space(channels=main[0], frames=main[1], height=main[2], width=main[3], text_dim=16)
    settings = TrainSettings(steps=len(samples), batch=1, warmup_steps=1, held_out_every=99, checkpoint_every=99)
    return Job(kind="families", name=family, config=config, space=space, settings=settings, data=data,
               work_dir=work_dir)  # fmt: skip


def test_a_family_learns_from_every_shape_each_clip_once_an_epoch(learnable, prepared, tmp_path, monkeypatch):
    samples = Samples(learnable, "train", text=True)
    assert sorted(map(len, samples.buckets.values())) == [1, 2, 4]
    config = flow_matching.Config(network=factorized_dit.Config(dim=24, depth=1, heads=2)).model_dump(mode="json")
    seen, batch = [], Samples.batch

    def noted(self, numbers, index):
        seen.append([self.clip_ids[number] for number in numbers])
        return batch(self, numbers, index)

    monkeypatch.setattr(Samples, "batch", noted)
    fitted = fit(job_of(learnable, samples, tmp_path / "work", "flow_matching", config), place=Place())
    assert fitted.steps == fitted.samples == 7
    learned = Counter(clip for clips in seen for clip in clips)
    assert learned == Counter(prepared[1].read("clips", ["clip_id"])["clip_id"].to_pylist())


def test_a_family_of_one_shape_says_so(learnable, tmp_path):
    job = job_of(learnable, Samples(learnable, "train", text=True), tmp_path / "work", "diffusion", {})
    with pytest.raises(VidgenError, match="diffusion learns clips of one shape.*data.shapes"):
        fit(job, place=Place())
