"""Scores over CLIP with a tiny model in open_clip's own format, against the formula applied to its embeddings."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from data_prep.score_settings import ClipHeadSettings, ClipSettings, ScoreSettings
from data_prep.scorers import aesthetic, nsfw, text_video_match, watermark
from data_prep.scorers._weights import read_regressor
from vidgen_core.errors import VidgenError

open_clip = pytest.importorskip("open_clip", reason="the extra vidgen[scores] is not installed")

WIDTH = 32
CONFIG = {
    "embed_dim": WIDTH,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": WIDTH, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": WIDTH, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    (folder / "clip_tiny.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    made = open_clip.create_model("clip_tiny")
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(std=0.2)  # open_clip leaves some parameters as the memory was
    file = folder / "clip.pt"
    torch.save(made.state_dict(), file)
    return str(file)


@pytest.fixture(scope="module")
def model(backbone):
    made, _, transform = open_clip.create_model_and_transforms("clip_tiny", pretrained=backbone)
    return made.eval(), transform, open_clip.get_tokenizer("clip_tiny")


def pictures(count=3):
    return list(np.random.default_rng(0).integers(0, 256, (count, 40, 56, 3), dtype=np.uint8))


def embedded(model):
    with torch.no_grad():
        batch = torch.stack([model[1](Image.fromarray(picture)) for picture in pictures()])
        return model[0].encode_image(batch).numpy()


def head_settings(field, weights, backbone):
    own = ClipHeadSettings(weights=str(weights), model="clip_tiny", backbone=backbone)
    return ScoreSettings(**{field: own})


def test_a_linear_aesthetic_head_reads_embeddings_of_length_one(model, backbone, tmp_path):
    torch.manual_seed(1)
    head = torch.nn.Linear(WIDTH, 1).requires_grad_(False)
    torch.save(head.state_dict(), tmp_path / "linear.pth")
    scored = aesthetic.open_scorer(head_settings("aesthetic", tmp_path / "linear.pth", backbone)).score(pictures(), "")
    unit = torch.nn.functional.normalize(torch.from_numpy(embedded(model)), dim=1)
    assert scored["aesthetic"] == pytest.approx(float(head(unit).mean()), rel=1e-4)


def test_an_aesthetic_head_with_layers_is_the_network_of_its_file(model, backbone, tmp_path):
    torch.manual_seed(2)
    layers = torch.nn.Sequential(torch.nn.Linear(WIDTH, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 4),
                                 torch.nn.Dropout(0.1), torch.nn.Linear(4, 1)).eval().requires_grad_(False)  # fmt: skip
    torch.save({f"layers.{key}": value for key, value in layers.state_dict().items()}, tmp_path / "layers.pth")
    scored = aesthetic.open_scorer(head_settings("aesthetic", tmp_path / "layers.pth", backbone)).score(pictures(), "")
    unit = torch.nn.functional.normalize(torch.from_numpy(embedded(model)), dim=1)
    assert scored["aesthetic"] == pytest.approx(float(layers(unit).mean()), rel=1e-4)


@pytest.mark.parametrize("module,fold", [(nsfw, np.max), (watermark, np.mean)])
def test_logistic_heads_read_the_embeddings_as_they_are(model, backbone, tmp_path, module, fold):
    weights = np.random.default_rng(3).normal(size=WIDTH).astype(np.float32)
    np.savez(tmp_path / "head.npz", weights=weights, biases=np.float32(0.3))
    field = module.__name__.rpartition(".")[2]
    scored = module.open_scorer(head_settings(field, tmp_path / "head.npz", backbone)).score(pictures(), "")
    logits = embedded(model) @ weights + 0.3
    assert scored == {field: pytest.approx(fold(1 / (1 + np.exp(-logits))), rel=1e-4)}


def test_text_video_match_is_the_cosine_with_the_caption_and_null_without_one(model, backbone):
    own = ClipSettings(weights=backbone, model="clip_tiny")
    scorer = text_video_match.open_scorer(ScoreSettings(text_video_match=own))
    with torch.no_grad():
        text = model[0].encode_text(model[2](["a red square"])).numpy()[0]
    seen = embedded(model)
    cosines = seen @ text / np.linalg.norm(seen, axis=1) / np.linalg.norm(text)
    assert scorer.score(pictures(), "a red square")["text_video_match"] == pytest.approx(cosines.mean(), abs=1e-5)
    assert scorer.score(pictures(), "")["text_video_match"] is None


def test_the_digest_changes_with_the_head_the_model_and_its_weights_and_not_with_their_place(backbone, tmp_path):
    for name, value in (("a", 1.0), ("b", 2.0)):
        torch.save({"weight": torch.full((1, WIDTH), value), "bias": torch.zeros(1)}, tmp_path / f"{name}.pth")
    (tmp_path / "moved.pth").write_bytes((tmp_path / "a.pth").read_bytes())
    one, moved, other = (head_settings("aesthetic", tmp_path / f"{n}.pth", backbone) for n in ("a", "moved", "b"))
    tag = head_settings("aesthetic", tmp_path / "a.pth", "openai")
    assert aesthetic.digest(one) == aesthetic.digest(moved)
    assert len({aesthetic.digest(settings) for settings in (one, other, tag)}) == 3


def test_wrong_files_get_a_sentence_that_says_what_to_set(backbone, tmp_path):
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no head")
    with pytest.raises(VidgenError, match="cannot be read as a head"):
        aesthetic.open_scorer(head_settings("aesthetic", broken, backbone))
    with pytest.raises(VidgenError, match="cannot be read as a head"):
        nsfw.open_scorer(head_settings("nsfw", broken, backbone))
    torch.save({"weight": torch.zeros(1, 7), "bias": torch.zeros(1)}, tmp_path / "narrow.pth")
    narrow = aesthetic.open_scorer(head_settings("aesthetic", tmp_path / "narrow.pth", backbone))
    with pytest.raises(VidgenError, match=re.escape("embeddings of 7, and a model that makes 32")):
        narrow.score(pictures(), "")
    with pytest.raises(VidgenError, match="cannot be read as a clip_tiny"):
        aesthetic.open_scorer(head_settings("aesthetic", tmp_path / "narrow.pth", str(broken)))
    with pytest.raises(VidgenError, match="no model"):
        text_video_match.open_scorer(ScoreSettings(text_video_match=ClipSettings(weights=backbone, model="clip_tinny")))


@pytest.mark.parametrize("kind", ["vit_l_14", "vit_b_32"])
def test_laions_own_heads_rank_their_own_samples(shared_weights, kind):
    folder = shared_weights / "aesthetic"
    rows = [np.load(folder / "samples" / f"{kind}_rating{bucket}.npy").reshape(1, -1) for bucket in range(10)]
    unit = np.concatenate([row / np.linalg.norm(row) for row in rows]).astype(np.float32)
    files = [f"sa_0_4_{kind}_linear.pth"] + (["sac_logos_ava1_l14_linearMSE.pth"] if kind == "vit_l_14" else [])
    for file in files:
        scores = read_regressor(str(folder / file))(unit)
        assert np.corrcoef(np.arange(10), scores)[0, 1] > 0.9
