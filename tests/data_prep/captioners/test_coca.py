"""The CoCa captioner with a tiny model in open_clip's own format, alone and in `prepare`."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_prep.captioners._contract import Asked
from data_prep.captioners.coca import check, digest, open_captioner
from data_prep.prepare import prepare
from data_prep.samples import make
from data_prep.settings import CaptionerSettings, DataSettings
from data_prep.tables import Tables
from vidgen_core.errors import VidgenError

open_clip = pytest.importorskip("open_clip", reason="the extra vidgen[captions] is not installed")

WIDTH = 32
CONFIG = {
    "embed_dim": WIDTH,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": WIDTH, "head_width": 16, "patch_size": 16,
                   "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
    "text_cfg": {"context_length": 76, "vocab_size": 49408, "width": WIDTH, "heads": 2, "layers": 1,
                 "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {"context_length": 76, "vocab_size": 49408, "width": WIDTH, "heads": 2, "layers": 1,
                       "attn_pooler_heads": 2},
    "custom_text": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Writes checkpoints of seeds; their weights are large, so that different pictures get different words."""
    folder = tmp_path_factory.mktemp("coca")
    (folder / "coca_tiny.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder)

    def write(seed):
        file = folder / f"{seed}.pt"
        if not file.exists():
            torch.manual_seed(seed)
            model = open_clip.create_model("coca_tiny")
            with torch.no_grad():
                for weight in model.parameters():
                    # open_clip leaves some as they were found in memory.
                    weight.normal_(std=1.0)
            torch.save(model.state_dict(), file)
        return CaptionerSettings(model="coca_tiny", weights=str(file), tokens=8, alarm="note")

    return write


def pictures(count=11):
    """Clips of one picture each, of large patches, since a model sees little of fine noise."""
    patches = np.random.default_rng(0).integers(0, 256, (count, 2, 2, 3), dtype=np.uint8)
    return [[png(pixels)] for pixels in patches.repeat(20, axis=1).repeat(28, axis=2)]


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def asked(clips, prompt=""):
    return [Asked(str(number), clip, prompt) for number, clip in enumerate(clips)]


@pytest.mark.parametrize("prompt", ["", "a video of"])
def test_each_word_is_the_likeliest_after_those_before_it(checkpoint, prompt):
    settings = checkpoint(0)
    model, _, transform = open_clip.create_model_and_transforms("coca_tiny", pretrained=settings.weights)
    model.eval()
    tokenizer = open_clip.get_tokenizer("coca_tiny")
    said = open_captioner(settings).caption(asked(pictures(3), prompt))
    for (picture,), caption in zip(pictures(3), said, strict=True):
        words = [49406, *tokenizer.encode(prompt)]
        image = transform(Image.open(io.BytesIO(picture)))[None]
        with torch.no_grad():
            while len(words) < settings.tokens and words[-1] != 49407:
                out = model(image, torch.tensor([words]), output_labels=False)
                words.append(int(out["logits"][0, -1].argmax()))
        kept = [word for word in words[1:] if word < 49406]
        assert caption.text == " ".join(tokenizer.decode(kept).split())
        assert caption.status == ("ok" if words[-1] == 49407 else "truncated")
        assert caption.text.startswith(prompt)
    assert prompt or len({one.text for one in said}) > 1


def test_a_caption_does_not_depend_on_the_clips_and_prompts_beside_it(checkpoint):
    captioner = open_captioner(checkpoint(0))
    mixed = [ask for pair in zip(asked(pictures()), asked(pictures(), "a dog"), strict=True) for ask in pair]
    assert captioner.caption(mixed) == [captioner.caption([ask])[0] for ask in mixed]


def test_of_two_captions_it_picks_the_one_whose_embedding_is_nearer_in_either_order(checkpoint):
    captioner = open_captioner(checkpoint(0))
    model, _, transform = open_clip.create_model_and_transforms("coca_tiny", pretrained=checkpoint(0).weights)
    model.eval()
    texts = ("a red square moves", "two green circles and a very long tail of words about nothing at all")
    for clip in pictures(4):
        with torch.no_grad():
            image = model.encode_image(transform(Image.open(io.BytesIO(clip[0])))[None], normalize=True)
            near = [
                float(image[0] @ model.encode_text(open_clip.get_tokenizer("coca_tiny")([text]), normalize=True)[0])
                for text in texts
            ]
        assert captioner.pick(clip, texts) == int(near[1] > near[0])
        assert captioner.pick(clip, texts[::-1]) == int(near[0] > near[1])
        assert captioner.pick(clip, (texts[0], texts[0])) is None


def test_the_digest_is_of_the_bytes_of_the_weights_and_of_what_else_changes_a_caption(checkpoint, tmp_path):
    one = checkpoint(0)
    moved = tmp_path / "moved.pt"
    moved.write_bytes(Path(one.weights).read_bytes())
    assert digest(one) == digest(one.model_copy(update={"weights": str(moved)}))
    others = [checkpoint(1), one.model_copy(update={"tokens": 9}), one.model_copy(update={"weights": "a_tag"})]
    assert len({digest(one), *map(digest, others)}) == 4


def test_wrong_weights_and_wrong_models_get_a_sentence(checkpoint, tmp_path):
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"not a checkpoint")
    for weights in (str(broken), "no_such_tag"):
        with pytest.raises(VidgenError, match="cannot be read as a coca_tiny"):
            open_captioner(checkpoint(0).model_copy(update={"weights": weights}))
    with pytest.raises(VidgenError, match="weights are not there"):
        check(checkpoint(0).model_copy(update={"weights": str(tmp_path / "gone.pt")}))
    with pytest.raises(VidgenError, match="one picture"):
        check(checkpoint(0).model_copy(update={"frames": 4}))
    with pytest.raises(VidgenError, match="Did you mean 'coca_ViT-L-14'"):
        open_captioner(CaptionerSettings(model="coca_ViT-L14", weights="x"))


class Here:
    """Runs tasks in this process, and counts the passes over sources by their function."""

    def __init__(self):
        self.ran = []

    def map(self, function, items, *, deadline_s=0.0):
        for item in items:
            self.ran.append(function.func.__name__)
            yield item, function(item)


def test_only_clips_without_a_caption_are_captioned_and_only_once(checkpoint, tmp_path):
    videos = tmp_path / "videos"
    make(videos, count=4, seed=3)
    silent = sorted(videos.glob("*.vtt"))[:2]
    for file in silent:
        file.unlink()
    tables = Tables(tmp_path / "tables")
    settings = DataSettings(captioner=checkpoint(0))
    runner = Here()
    decoded = prepare(videos, tables, settings, runner).decoded_per_source_frame
    assert 0 < decoded["caption"] <= 2  # captions, and the comparison
    assert 0 < decoded["cut"] <= 1
    passes = 2 * len(silent)  # captions, and the comparison
    assert runner.ran.count("_answer_all") == passes
    said = {row["clip_id"]: row for row in tables.read("captions").to_pylist()}
    assert len(said) == len(tables.read("captions"))
    clips = {row["clip_id"]: row["source_id"] for row in tables.read("clips", ["clip_id", "source_id"]).to_pylist()}
    uris = {row["source_id"]: row["uri"] for row in tables.read("sources").to_pylist()}
    assert said.keys() == clips.keys()
    origins = {
        (uris[clips[clip]].startswith(tuple(file.stem for file in silent)), row["origin"]) for clip, row in said.items()
    }
    assert origins == {(True, "coca"), (False, "vtt")}
    assert all(row["caption"] for row in said.values())

    again = Here()
    prepare(videos, tables, settings, again)
    assert again.ran == []
    other = Here()
    prepare(videos, tables, settings.model_copy(update={"captioner": checkpoint(1)}), other)
    assert set(other.ran) == {"_answer_all"}
    assert len(other.ran) >= len(silent)
    assert {row["clip_id"] for row in tables.read("captions").to_pylist()} == said.keys()


def test_without_weights_a_clip_without_a_caption_is_dropped_for_that(tmp_path):
    videos = tmp_path / "videos"
    make(videos, count=4, seed=3)
    min(videos.glob("*.vtt")).unlink()
    tables = Tables(tmp_path / "tables")
    prepared = prepare(videos, tables, DataSettings(), Here())
    assert prepared.reasons["need_caption"] > 0
    assert set(tables.read("captions")["origin"].to_pylist()) == {"vtt"}
