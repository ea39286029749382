import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import to_unit
from vidgen_core.scalars import Scalar
from vidgen_core.training import samples as module
from vidgen_core.training.job import Data
from vidgen_core.training.samples import Samples

HELD_OUT, TRAIN = 7, 21


def test_a_split_holds_its_own_clips_and_no_others(data):
    train, held_out = (Samples(data, split, text=False) for split in ("train", "held_out"))
    assert (len(train), len(held_out)) == (TRAIN, HELD_OUT)
    assert not set(train.clip_ids) & set(held_out.clip_ids)


def test_samples_do_not_depend_on_how_files_were_cut_or_listed(data, cases, tmp_path):
    turned = data.model_copy(update={"files": data.files[::-1]})
    here, there = (Samples(one, "train", text=True) for one in (data, turned))
    assert here.clip_ids == there.clip_ids == sorted(here.clip_ids)
    assert here.digest == there.digest
    one, other = (samples.batch([0, 5, 20], [7, 8, 9]) for samples in (here, there))
    assert torch.equal(one.video, other.video)
    assert torch.equal(one.text.tokens, other.text.tokens)
    assert one.index.tolist() == [7, 8, 9]


def test_a_sample_is_the_stored_latent(data):
    samples = Samples(data, "train", text=False)
    rows = {row["clip_id"]: row["latent"] for file in data.files for row in pq.read_table(file).to_pylist()}
    batch = samples.batch(range(TRAIN), range(TRAIN))
    assert batch.to("cpu").video.dtype == torch.float32
    assert torch.equal(batch.to("cpu").video, batch.video.float())
    assert batch.text is None
    for clip_id, video in zip(samples.clip_ids, batch.video, strict=True):
        assert video.half().numpy().tobytes() == rows[clip_id]


def test_a_clip_without_a_caption_has_an_empty_text(data):
    samples = Samples(data, "train", text=True)
    text = samples.batch(range(TRAIN), range(TRAIN)).text
    # Clips 0, 6, 12, 18 have none; the others say two words.
    assert text.mask.sum(1).tolist() == [0 if number % 6 == 0 else 2 for number in range(TRAIN)]
    assert samples.text_shape == (3, 6)


def test_of_several_captions_each_place_of_the_stream_has_one_and_all_have_their_turn(data, cases, tmp_path):
    ids = [row["clip_id"] for file in data.files for row in pq.read_table(file).to_pylist()]
    both = ["word1 moves", "word2 moves"]
    columns = {"clip_id": ids * 2, "caption": [both[0]] * len(ids) + [both[1]] * len(ids)}
    file = cases.write(tmp_path / "captions.parquet", columns)
    several = Samples(data.model_copy(update={"captions": (file,)}), "train", text=True)
    alone = []
    for caption in both:
        file = cases.write(tmp_path / f"{caption}.parquet", {"clip_id": ids, "caption": [caption] * len(ids)})
        alone.append(Samples(data.model_copy(update={"captions": (file,)}), "train", text=True))
    places = range(64)
    clip = [3] * len(places)
    tokens = several.batch(clip, places).text.tokens
    choices = [one.batch(clip, places).text.tokens for one in alone]
    first, second = ((tokens == choice).flatten(1).all(1) for choice in choices)
    assert (first ^ second).all()
    assert 16 < first.sum() < 48
    assert torch.equal(several.batch(clip[:9], places[40:49]).text.tokens, tokens[40:49])
    assert len({one.digest for one in [several, *alone]}) == 3


def test_clips_are_decoded_to_the_same_video_as_everywhere_else(tmp_path, cases, monkeypatch):
    clips = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 6, 3), dtype=np.uint8)
    columns = {"clip_id": list("dbca"), "split": ["train"] * 4, "media": [bytes([number]) for number in range(4)],
               "frames": [3] * 4, "height": [8] * 4, "width": [6] * 4}  # fmt: skip
    file = cases.write(tmp_path / "clips.parquet", columns)
    monkeypatch.setattr(module, "decode_clips", lambda media: np.stack([clips[m[0]] for m in media]))
    samples = Samples(Data(kind="clips", files=(file,)), "train", text=False)
    video = samples.batch([0, 1, 2, 3], [0, 1, 2, 3]).video
    assert torch.equal(video, to_unit(torch.from_numpy(clips[[3, 1, 2, 0]])))
    assert video.is_contiguous()
    assert list(samples.buckets) == [(3, 3, 8, 6)]


def test_a_clip_that_cannot_be_decoded_is_told_with_its_file(tmp_path, cases):
    columns = {"clip_id": ["a"], "split": ["train"], "media": [b"no video"], "frames": [3], "height": [8], "width": [6]}
    file = cases.write(tmp_path / "clips.parquet", columns)
    with pytest.raises(VidgenError, match=r"clips\.parquet.*row 0.*prepare"):
        Samples(Data(kind="clips", files=(file,)), "train", text=False).batch([0], [0])


def test_clips_of_several_shapes_are_buckets_and_keep_their_order(cases, tmp_path):
    data = cases.data_of_shapes(tmp_path)
    samples = Samples(data, "train", text=True)
    assert samples.clip_ids == sorted(samples.clip_ids)
    assert {shape: len(numbers) for shape, numbers in samples.buckets.items()} == {(2, 1, 6, 4): 10, (2, 3, 4, 4): 11}
    assert sorted(n for numbers in samples.buckets.values() for n in numbers) == list(range(21))
    rows = {row["clip_id"]: row["latent"] for file in data.files for row in pq.read_table(file).to_pylist()}
    for shape, numbers in samples.buckets.items():
        batch = samples.batch(numbers.tolist(), numbers.tolist())
        assert batch.video.shape[1:] == shape
        assert [video.numpy().tobytes() for video in batch.video] == [rows[samples.clip_ids[n]] for n in numbers]


def test_other_clips_or_other_captions_are_other_data(data, cases, tmp_path):
    more = cases.data(tmp_path / "more", train=TRAIN + 1)
    digests = {Samples(one, "train", text=text).digest for one in (data, more) for text in (False, True)}
    assert len(digests) == 4


def test_captions_that_were_never_embedded_are_an_error(data, cases, tmp_path):
    file = cases.write(tmp_path / "new.parquet", {"clip_id": ["clip001"], "caption": ["never seen"]})
    with pytest.raises(VidgenError, match="never seen"):
        Samples(data.model_copy(update={"captions": (file,)}), "train", text=True)
    with pytest.raises(VidgenError, match="no clip has an embedded caption"):
        Samples(data.model_copy(update={"embeddings": ()}), "train", text=True)


def test_a_family_that_reads_no_scalars_is_refused_before_anything_is_learned(data, cases, tmp_path):
    job = cases.job(data, tmp_path)
    scored = job.space.model_copy(update={"scalars": (Scalar.of("motion", [1.0, 2.0]),)})
    with pytest.raises(VidgenError, match="does not read conditions"):
        job.model_copy(update={"space": scored}).build()


def test_a_sample_has_the_scalars_of_its_clip_and_nan_where_one_is_null(data, cases, tmp_path):
    ids = [row["clip_id"] for file in data.files for row in pq.read_table(file).to_pylist()]
    motion = {clip: float(clip[4:]) if int(clip[4:]) % 3 else None for clip in ids}
    file = cases.write(tmp_path / "scalars.parquet", {"clip_id": ids, "motion": list(motion.values())})
    scored = data.model_copy(update={"scalars": (file,)})
    samples = Samples(scored, "train", text=False, scalars=["motion"])
    values = samples.batch([4, 2, 0], [0, 1, 2]).scalars["motion"]
    wanted = [motion[samples.clip_ids[number]] for number in (4, 2, 0)]
    assert [None if value.isnan() else value.item() for value in values] == wanted
    plain = Samples(scored, "train", text=False)
    assert plain.batch([0], [0]).scalars == {}
    changed = cases.write(tmp_path / "other.parquet", {"clip_id": ids, "motion": [0.0] * len(ids)})
    other = Samples(data.model_copy(update={"scalars": (changed,)}), "train", text=False, scalars=["motion"])
    assert len({one.digest for one in (samples, plain, other)}) == 3
    with pytest.raises(VidgenError, match="no condition 'sharpness'"):
        Samples(scored, "train", text=False, scalars=["sharpness"])


@pytest.mark.parametrize("split", ["train", "held_out", "none"])
def test_clips_that_lack_a_label_are_no_samples_also_where_a_split_has_no_clip_at_all(data, cases, tmp_path, split):
    ids = [row["clip_id"] for file in data.files for row in pq.read_table(file).to_pylist()]
    labels = [float(number) if number % 2 else None for number in range(len(ids))]
    file = cases.write(tmp_path / "labels.parquet", {"clip_id": ids, "label": labels})
    labelled = data.model_copy(update={"scalars": (file,)})
    kept = {clip for clip, label in zip(ids, labels, strict=True) if label is not None}
    wanted = [clip for clip in Samples(data, split, text=False).clip_ids if clip in kept]
    assert Samples(labelled, split, text=False, labels=["label"]).clip_ids == wanted
    assert (split == "none") == (not wanted)
