"""Laws of extractors: each sees a clip as its protocol says, and wrong files get a sentence."""

import json
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidgen_core.encoders.hashed_words import Config as HashedWords
from vidgen_core.errors import VidgenError
from vidgen_core.evaluation.clip_measures import still_measures
from vidgen_core.evaluation.extractors._contract import StillExtractor
from vidgen_core.evaluation.extractors.i3d import I3DLogits, resized
from vidgen_core.evaluation.extractors.random_conv import RandomConv, RandomMotion
from vidgen_core.evaluation.extractors.trained import TrainedEncoder
from vidgen_core.evaluation.inception import inception_score
from vidgen_core.evaluation.set_metrics import Material, look, set_metrics
from vidgen_core.evaluation.settings import EvaluationSettings
from vidgen_core.evaluation.spaces import open_spaces
from vidgen_core.evaluation.text_match import ClipScore, LearnedMatch, text_match
from vidgen_core.networks.i3d import Config

CLIPS = np.random.default_rng(0).integers(0, 256, (24, 9, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    file = tmp_path_factory.mktemp("i3d") / "i3d_torchscript.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flat = torch.jit.script(Flat())
        flat.save(str(file))
    return file


class Flat(nn.Module):
    """400 numbers of a clip in 0 to 255, as the public file would give."""

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        assert rescale and resize and return_features
        return F.adaptive_avg_pool3d(x, (4, 5, 20)).mean(1).flatten(1) / 255


def test_the_export_is_given_bytes_and_asked_to_resize_rescale_and_give_features(export):
    found = I3DLogits(str(export)).features(CLIPS)
    video = torch.from_numpy(CLIPS).permute(0, 4, 1, 2, 3).float()
    expected = F.adaptive_avg_pool3d(video, (4, 5, 20)).mean(1).flatten(1) / 255
    assert found.dtype == np.float64
    assert np.allclose(found, expected.numpy(), atol=1e-6)


def test_fvd_carries_its_protocol_and_is_called_so_on_the_export_alone(export):
    space = I3DLogits(str(export))
    material = Material(CLIPS[:12], ["x"] * 12, CLIPS[12:], "8")
    found = {one.kind: one for one in set_metrics(space, material, look(space, material, CLIPS[:12]))}
    assert {"fvd", "kvd", "inception_score", "precision", "nearest_ratio"} <= set(found)
    assert "fvd@i3d-k400-logits/9f/16x16/n12/ref=train/" in found["fvd"].name
    assert found["inception_score"].value == pytest.approx(inception_score(space.features(CLIPS[:12])))
    held = I3DLogits(str(export), "held_out")
    other = {one.kind: one for one in set_metrics(held, material, look(held, material, CLIPS[:12]))}
    assert other["fvd"].protocol != found["fvd"].protocol
    assert other["fvd"].value == pytest.approx(0.0, abs=1e-9)  # made clips are the held-out ones


def test_pixels_reach_our_i3d_as_bilinear_224_in_minus_one_to_one():
    video = torch.from_numpy(CLIPS[:1, :2]).permute(0, 4, 1, 2, 3).float()
    small = resized(video)
    assert small.shape == (1, 3, 2, 224, 224)
    frame = F.interpolate(video[:, :, 1], size=(224, 224), mode="bilinear", align_corners=False, antialias=False)
    assert torch.allclose(small[:, :, 1], 2 * frame / 255 - 1, atol=1e-6)
    assert small.min() >= -1 and small.max() <= 1


@pytest.mark.slow
def test_a_state_dict_gives_the_logits_of_our_i3d_whose_name_says_that_it_is_no_export(tmp_path):
    torch.manual_seed(0)
    network = Config().build().eval()
    torch.save(network.state_dict(), tmp_path / "rgb_imagenet.pt")
    space = I3DLogits(str(tmp_path / "rgb_imagenet.pt"))
    with torch.inference_mode():
        expected = network(resized(torch.from_numpy(CLIPS[:1]).permute(0, 4, 1, 2, 3).float()))
    assert np.allclose(space.features(CLIPS[:1]), expected.numpy(), atol=1e-4)
    assert space.protocol.encoder == "i3d-k400-logits-statedict"


def test_wrong_weights_get_a_sentence(tmp_path):
    (tmp_path / "other.pt").write_bytes(b"no weights")
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "else.pt")
    for name in ("other.pt", "else.pt"):
        for settings in ({"i3d": {"weights": str(tmp_path / name)}}, {"dino": {"weights": str(tmp_path / name)}}):
            with pytest.raises(VidgenError, match="no I3D|no DINO"):
                open_spaces(EvaluationSettings.model_validate(settings))
    with pytest.raises(VidgenError, match="no such file"):
        open_spaces(EvaluationSettings.model_validate({"i3d": {"weights": str(tmp_path / "gone.pt")}}))


def test_what_needs_weights_is_not_run_and_names_its_setting():
    spaces = open_spaces(EvaluationSettings())
    assert [one.protocol.encoder for one in spaces.extractors] == ["random-conv64", "random-conv64-motion"]
    told = " ".join(spaces.not_run.values())
    assert all(f"evaluation.{name}.weights" in told for name in ("i3d", "clip", "dino"))


def test_differences_see_no_still_picture_and_frames_do():
    still = np.repeat(CLIPS[:2, :1], 9, axis=1)
    motion = RandomMotion()
    assert np.ptp(motion.features(still), axis=0).max() == 0
    assert np.ptp(RandomConv().features(still), axis=0).max() > 0
    assert not isinstance(motion, StillExtractor) and motion.least_frames == 2


def test_an_encoder_of_ours_is_a_space_with_its_digest_in_the_protocol():
    class Means:
        digest, dim = "abc", 3

        def features(self, clips):
            return clips.mean((1, 2, 3)).astype(np.float32)

    space = TrainedEncoder("some_encoder", Means())
    assert np.allclose(space.features(CLIPS), CLIPS.mean((1, 2, 3)), atol=1e-3)
    assert (space.protocol.encoder, space.protocol.weights, space.protocol.dimensions) == ("some-encoder", "abc", 3)


def test_a_trained_match_is_asked_in_batches_with_its_captions():
    class Match:
        digest = "abc"

        def match(self, video, text):
            assert video.shape[1] == 3 and video.abs().max() <= 1
            return video.mean((1, 2, 3, 4)) + text.mask.sum(1)

    captions = [f"{'a ' * (place % 5)}cat" for place in range(len(CLIPS))]
    words = HashedWords.tiny().build()
    found = LearnedMatch("clipbert", Match(), words).scores(CLIPS, captions)
    expected = CLIPS.mean((1, 2, 3, 4)) / 127.5 - 1 + words.encode(captions).mask.sum(1).numpy()
    assert np.allclose(found, expected, atol=1e-4)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    open_clip = pytest.importorskip("open_clip", reason="the extra vidgen[text] is not installed")
    folder = tmp_path_factory.mktemp("clip")
    sizes = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    (folder / "match_tiny.json").write_text(json.dumps(sizes))
    open_clip.add_model_config(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(open_clip.create_model("match_tiny").state_dict(), folder / "clip.pt")
    settings = EvaluationSettings.model_validate({"clip": {"model": "match_tiny", "weights": str(folder / "clip.pt")}})
    return open_spaces(settings).extractors[2]


def test_the_clip_score_is_the_mean_cosine_over_frames(clip):
    captions = ["a red square", "a blue circle moves left"]
    found = ClipScore(clip).scores(CLIPS[:2], captions)
    frames, texts = clip.stills(CLIPS[1]), clip.texts(captions)
    assert np.allclose(np.linalg.norm(frames, axis=1), 1)
    assert found[1] == pytest.approx(np.mean([frame @ texts[1] for frame in frames]))
    assert (np.abs(found) <= 1).all()


def test_the_clip_score_stands_beside_that_of_real_clips(clip):
    material = Material(CLIPS[:4], ["a cat"] * 4, CLIPS[:0], "8")
    found = text_match(ClipScore(clip), material, CLIPS[:4], ["a cat"] * 4)
    assert found.value == pytest.approx(found.floor)
    assert found.name.startswith("clip_score@clip-match_tiny/9f/")


def test_a_clip_is_seen_once_whoever_asks(clip, monkeypatch):
    seen, network = [], clip.stills
    monkeypatch.setattr(clip, "stills", lambda frames: seen.append(len(frames)) or network(frames))
    material = Material(CLIPS[12:15], ["a cat"] * 3, CLIPS[:0], "8")
    made = CLIPS[15:18].copy()
    still_measures(clip, material, made)
    found = look(clip, material, made)
    ClipScore(clip).scores(made, ["a cat"] * 3)
    assert seen == [9] * 6
    assert np.array_equal(found.made[1], network(made[1]).mean(0))


@pytest.mark.slow
def test_dino_gives_what_timms_network_gives(tmp_path):
    timm = pytest.importorskip("timm", reason="timm, which comes with open_clip, is not installed")
    network = timm.create_model("vit_base_patch16_224", num_classes=0).eval()
    torch.save(network.state_dict(), tmp_path / "dino.pth")
    spaces = open_spaces(EvaluationSettings.model_validate({"dino": {"weights": str(tmp_path / "dino.pth")}}))
    frame = np.zeros((1, 224, 224, 3), np.uint8)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        shown = (torch.zeros(1, 224, 224, 3) - mean) / deviation
        expected = F.normalize(network(shown.permute(0, 3, 1, 2)), dim=-1)
    assert np.allclose(spaces.extractors[2].stills(frame), expected.numpy(), atol=1e-5)
