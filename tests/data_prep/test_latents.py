import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from data_prep.latents import embed_captions, encode_latents, latents_table
from data_prep.parts import write_part
from data_prep.run import PoolRunner
from data_prep.tables import SCHEMAS, Part, Tables
from data_prep.verify import verify_embeddings, verify_latents
from vidgen_core import weights
from vidgen_core.clip import decode_clips, encode
from vidgen_core.codecs import causal_vae, identity
from vidgen_core.codecs._open import open_codec
from vidgen_core.encoders import hashed_words
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import to_unit
from vidgen_core.training.columns import WRITING, TensorColumn, stored_in
from vidgen_core.training.job import Data
from vidgen_core.training.samples import Samples


class HereRunner:
    """Runs tasks in this process, and dies before task `stop_at` as a kill would."""

    def __init__(self, stop_at=None):
        self.done, self.stop_at = 0, stop_at

    def map(self, function, items, *, deadline_s=3600.0):
        for item in items:
            if self.done == self.stop_at:
                raise KeyboardInterrupt
            self.done += 1
            yield item, function(item)


def clip_row(number, split, side=32, moved=0):
    pictures = np.zeros((5, side, 32, 3), np.uint8)
    pictures[:, number % 12 : number % 12 + 4, moved:] = 40 + 10 * number
    media = encode(pictures, "8/1")
    clip_id = hashlib.sha256(bytes([number])).hexdigest()[:24]
    known = {"clip_id": clip_id, "source_id": f"source{number}", "split": split, "media": media}
    known |= {"media_sha256": hashlib.sha256(media).hexdigest(), "caption": ""}
    return known | {"frames": 5, "height": side, "width": 32, "frame_rate": "8/1"}


def commit_clips(tables, unit, numbers, side=32, moved=()):
    rows = [clip_row(n, "held_out" if n % 4 == 3 else "train", side, 8 * (n in moved)) for n in numbers]
    captions = [{"clip_id": row["clip_id"], "caption": f"number {n % 3}"} for n, row in zip(numbers, rows, strict=True)]
    for name, content in (("clips", rows), ("captions", captions)):
        schema = SCHEMAS[name]
        table = pa.Table.from_pylist([{key: row.get(key) for key in schema.names} for row in content], schema)
        file = tables.part_file(name, unit)
        write_part(file, table)
        tables.commit(name, schema, [Part(unit, file, len(table))])


@pytest.fixture
def codec_dir(tmp_path):
    torch.manual_seed(0)
    codec = causal_vae.Config().build()
    weights.save(tmp_path / "codec", codec.state_dict(), {"name": "causal_vae", "config": {}})
    return tmp_path / "codec"


@pytest.fixture
def tables(tmp_path):
    tables = Tables(tmp_path / "tables")
    commit_clips(tables, "a", range(6))
    commit_clips(tables, "b", range(6, 11))
    return tables


def test_a_latent_is_the_codecs_own_in_half_precision(tables, codec_dir):
    name = encode_latents(tables, codec_dir, HereRunner(), unit_clips=4)
    codec = open_codec(codec_dir)
    clips = {row["clip_id"]: row for row in tables.read("clips").to_pylist()}
    assert sorted(clips) == sorted(tables.read(name)["clip_id"].to_pylist())
    for file in tables.files(name):
        column = TensorColumn([file], "latent", stored_in(file))
        assert column.values.direct_share == 1
        for row, told in enumerate(pq.read_table(file, partitioning=None).to_pylist()):
            clip = clips[told["clip_id"]]
            video = to_unit(torch.from_numpy(decode_clips([clip["media"]])))
            assert told["split"] == clip["split"]
            assert np.array_equal(column.gather([row])[0], codec.encode(video)[0].half().numpy())


def test_latents_are_the_same_bytes_however_the_work_was_cut_and_broken(tables, codec_dir, tmp_path):
    name = encode_latents(tables, codec_dir, PoolRunner(2), unit_clips=4)
    expected = tables.digest(name)
    other = Tables(tmp_path / "other")
    commit_clips(other, "b", range(6, 11))
    encode_latents(other, codec_dir, HereRunner(), unit_clips=2)
    commit_clips(other, "a", range(6))
    with pytest.raises(KeyboardInterrupt):
        encode_latents(other, codec_dir, HereRunner(stop_at=2), unit_clips=1)
    encode_latents(other, codec_dir, HereRunner(), unit_clips=3)
    assert other.digest(name) == expected


def test_what_a_killed_run_wrote_and_did_not_commit_is_not_coded_again(tables, codec_dir):
    killed, again = HereRunner(stop_at=3), HereRunner()
    with pytest.raises(KeyboardInterrupt):
        encode_latents(tables, codec_dir, killed, unit_clips=2)
    name = latents_table(codec_dir)
    assert not tables.exists(name)
    begun = tables.part_file(name, "0" * 32).with_suffix(".begun.tmp")
    begun.write_bytes(b"half")
    encode_latents(tables, codec_dir, again, unit_clips=2)
    assert killed.done + again.done == 6
    assert sorted(tables.read(name)["clip_id"].to_pylist()) == sorted(tables.read("clips")["clip_id"].to_pylist())
    assert not begun.exists()


def test_only_new_clips_are_coded_and_gone_clips_lose_their_latents(tables, codec_dir):
    first, again, more, fewer = HereRunner(), HereRunner(), HereRunner(), HereRunner()
    name = encode_latents(tables, codec_dir, first, unit_clips=1)
    version = tables.version(name)
    encode_latents(tables, codec_dir, again, unit_clips=1)
    assert (first.done, again.done) == (11, 0)
    assert tables.version(name) == version
    commit_clips(tables, "c", [11, 12])
    encode_latents(tables, codec_dir, more, unit_clips=1)
    assert more.done == 2
    tables.commit("clips", SCHEMAS["clips"], [], drop=["a"])
    encode_latents(tables, codec_dir, fewer, unit_clips=1)
    assert fewer.done == 0
    assert sorted(tables.read(name)["clip_id"].to_pylist()) == sorted(tables.read("clips")["clip_id"].to_pylist())


def test_a_clip_whose_media_changed_under_its_id_is_coded_again_and_its_neighbors_are_not(tables, codec_dir):
    name = encode_latents(tables, codec_dir, HereRunner(), unit_clips=3)
    tables.commit("clips", SCHEMAS["clips"], [], drop=["a", "b"])
    commit_clips(tables, "cropped", range(10), moved={1, 7})
    coded = []
    again = HereRunner()
    again.map = lambda function, items, **_: ((unit, coded.extend(unit.clips) or function(unit)) for unit in items)
    encode_latents(tables, codec_dir, again)
    assert {clip.identity[0] for clip in coded} == {clip_row(number, "")["clip_id"] for number in (1, 7)}
    assert verify_latents(tables, codec_dir, share=1.0).mismatches == ()
    assert len(tables.read(name)) == 10


def test_latents_that_do_not_say_of_which_media_they_are_are_made_again(tables, codec_dir):
    name = encode_latents(tables, codec_dir, HereRunner(), unit_clips=6)
    before = tables.digest(name)
    file = tables.files(name)[0]
    write_part(file, pq.read_table(file, partitioning=None).drop_columns("media_sha256"), **WRITING)
    again = HereRunner()
    encode_latents(tables, codec_dir, again, unit_clips=6)
    assert again.done == 1
    assert tables.digest(name) == before


def test_another_codec_has_another_table(tables, codec_dir, tmp_path):
    weights.save(tmp_path / "pixels", {}, {"name": "identity", "config": {}})
    name = encode_latents(tables, tmp_path / "pixels", HereRunner())
    assert name == latents_table(tmp_path / "pixels") != latents_table(codec_dir)
    file = tables.files(name)[0]
    assert stored_in(file).shape == identity.Config().build().latent_shape(5, 32, 32)


def test_captions_are_embedded_once_each_and_forgotten_with_their_clips(tables):
    encoder = hashed_words.Config(dim=4, tokens=3).build()
    name = embed_captions(tables, encoder, unit_captions=2)
    assert sorted(tables.read(name)["caption"].to_pylist()) == ["number 0", "number 1", "number 2"]
    version = tables.version(name)
    assert embed_captions(tables, encoder) == name
    assert tables.version(name) == version
    commit_clips(tables, "c", [12])
    for unit in ("a", "b"):
        tables.commit("captions", SCHEMAS["captions"], [], drop=[unit])
    embed_captions(tables, encoder)
    assert tables.read(name)["caption"].to_pylist() == ["number 0"]


def test_a_learner_reads_latents_and_text_as_they_were_stored(tables, codec_dir):
    encoder = hashed_words.Config(dim=4, tokens=3).build()
    latents, embeddings = encode_latents(tables, codec_dir, HereRunner()), embed_captions(tables, encoder)
    files = [tuple(tables.files(name)) for name in (latents, "captions", embeddings)]
    data = Data(kind="latents", files=files[0], captions=files[1], embeddings=files[2])
    caption = dict(zip(*(tables.read("captions")[name].to_pylist() for name in ("clip_id", "caption")), strict=True))
    samples = Samples(data, "train", text=True)
    batch = samples.batch(range(len(samples)), range(len(samples)))
    expected = encoder.encode([caption[clip_id] for clip_id in samples.clip_ids])
    assert torch.equal(batch.text.tokens, expected.tokens)
    assert torch.equal(batch.text.mask, expected.mask)
    stored = tables.read(latents)
    halves = dict(zip(stored["clip_id"].to_pylist(), stored["latent"].to_pylist(), strict=True))
    for clip_id, video in zip(samples.clip_ids, batch.video, strict=True):
        assert video.half().numpy().tobytes() == halves[clip_id]


def test_tables_without_clips_say_what_to_do(codec_dir, tmp_path):
    with pytest.raises(VidgenError, match="prepare"):
        encode_latents(Tables(tmp_path / "none"), codec_dir, HereRunner())


def test_clips_of_several_shapes_are_buckets_of_one_table(tables, codec_dir):
    commit_clips(tables, "tall", range(12, 17), side=48)
    name = encode_latents(tables, codec_dir, HereRunner(), unit_clips=3)
    samples = Samples(Data(kind="latents", files=tuple(tables.files(name))), "train", text=False)
    codec = open_codec(codec_dir)
    shapes = {codec.latent_shape(5, side, 32): count for side, count in ((32, 9), (48, 4))}
    assert {shape: len(numbers) for shape, numbers in samples.buckets.items()} == shapes


def test_a_damaged_file_of_latents_is_made_anew_and_no_other(tables, codec_dir):
    name = encode_latents(tables, codec_dir, HereRunner(), unit_clips=4)
    before = tables.digest(name)
    file = tables.files(name)[1]
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(VidgenError, match="run vidgen latents again"):
        Samples(Data(kind="latents", files=tuple(tables.files(name))), "train", text=False)
    runner = HereRunner()
    encode_latents(tables, codec_dir, runner, unit_clips=4)
    assert runner.done == 1
    assert tables.digest(name) == before


@pytest.fixture
def coded(tables, codec_dir):
    """Tables with latents and embeddings, the codec's folder and the encoder."""
    encoder = hashed_words.Config(dim=4, tokens=3).build()
    encode_latents(tables, codec_dir, HereRunner(), unit_clips=4)
    embed_captions(tables, encoder)
    return tables, codec_dir, encoder


def rewritten(file, column, row, value):
    table = pq.read_table(file, partitioning=None)
    values = table[column].to_pylist()
    values[row] = value(values[row])
    place = table.schema.get_field_index(column)
    changed = table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))
    write_part(file, changed, **WRITING)


def test_what_is_stored_as_it_was_made_is_verified(coded):
    tables, codec_dir, encoder = coded
    found = verify_latents(tables, codec_dir, share=1.0)
    assert (found.of, found.checked, found.mismatches) == (11, 11, ())
    assert 0 < found.worst < 1e-3  # what half precision rounds away
    words = verify_embeddings(tables, encoder, share=0.5)
    assert (words.of, words.checked, words.mismatches) == (3, 2, ())


def test_a_changed_a_missing_and_an_unreadable_latent_are_named(coded):
    tables, codec_dir, _ = coded
    first, second, third = tables.files(latents_table(codec_dir))
    told = pq.read_table(first, partitioning=None)["clip_id"].to_pylist()
    rewritten(first, "latent", 1, lambda value: bytes(len(value)))
    lost = set(pq.read_table(second, partitioning=None)["clip_id"].to_pylist())
    second.write_bytes(b"x" * 100)
    found = verify_latents(tables, codec_dir, share=1.0)
    whys = {one.key: one.why for one in found.mismatches}
    assert set(whys) == {told[1], "", *lost}
    assert "differs" in whys[told[1]]
    assert "not stored" in whys[lost.pop()]
    assert second.name in whys[""]
    assert verify_latents(tables, codec_dir, share=1.0, tolerance=100.0).mismatches != found.mismatches


def test_a_share_is_drawn_by_its_seed(coded):
    tables, codec_dir, _ = coded
    for file in tables.files(latents_table(codec_dir)):
        for row in range(pq.read_metadata(file).num_rows):
            rewritten(file, "latent", row, lambda value: b"\xff" * len(value))
    drawn = [
        tuple(one.key for one in verify_latents(tables, codec_dir, share=0.3, seed=seed).mismatches)
        for seed in (0, 0, 1)
    ]
    assert len(drawn[0]) == 4
    assert drawn[0] == drawn[1] != drawn[2]


def test_captions_of_another_encoder_cannot_be_verified(coded):
    tables, _, _ = coded
    with pytest.raises(VidgenError, match="vidgen latents"):
        verify_embeddings(tables, hashed_words.Config(dim=5).build(), share=1.0)
