"""Laws of video encoders: those that all obey, found in their folder, and those of classifiers."""

import pytest
import torch
from torch.nn import functional as F

from vidgen_core import discovery, weights
from vidgen_core.chance import Chance
from vidgen_core.encoders import i3d, timesformer
from vidgen_core.encoders._open import open_encoder_folder
from vidgen_core.encoders._views import blurred, cropped, recolored, resized, solarized, times
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Batch, VideoEncoder
from vidgen_core.networks.i3d import renamed


def is_video_encoder(name):
    module = discovery.load("vidgen_core.encoders", name)
    made = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, VideoEncoder)]
    return any(one.__module__ == module.__name__ for one in made)


NAMES = [name for name in discovery.names("vidgen_core.encoders") if is_video_encoder(name)]


def built(name, seed=0):
    torch.manual_seed(seed)
    return discovery.load("vidgen_core.encoders", name).Config.tiny().build()


def some_clips(count=3, frames=9, side=32):
    return torch.randint(0, 256, (count, frames, side, side, 3), generator=torch.Generator().manual_seed(1)).byte()


@pytest.mark.parametrize("name", NAMES)
def test_features_are_of_each_clip_by_itself_and_of_any_size(name):
    encoder = built(name)
    clips = some_clips()
    features = encoder.features(clips.numpy(), batch=2)
    assert features.shape == (3, encoder.dim)
    assert features.dtype == "float32"
    assert features == pytest.approx(encoder.features(clips, batch=1), abs=1e-5)
    assert encoder.training, "asking leaves the encoder as it was"
    assert encoder.features(some_clips(2, 7, 20)).shape == (2, encoder.dim)
    assert encoder.features(clips[:0]).shape == (0, encoder.dim)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_encoder_opens_again_with_its_digest(name, tmp_path):
    encoder = built(name)
    card = {"kind": "encoders", "name": name, "config": encoder.config.model_dump(mode="json")}
    weights.save(tmp_path / "encoder", encoder.state_dict(), card)
    opened = open_encoder_folder(tmp_path / "encoder")
    assert opened.digest == encoder.digest != built(name, seed=1).digest
    assert (opened.features(some_clips()) == encoder.features(some_clips())).all()
    weights.save(tmp_path / "codec", {}, {"kind": "codecs"})
    with pytest.raises(VidgenError, match="no video encoder"):
        open_encoder_folder(tmp_path / "codec")


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_that_is_looked_at_is_read_in_every_channel(name):
    encoder = built(name).eval()
    with torch.no_grad():
        for values in encoder.parameters():
            values.add_(0.02 * torch.randn(values.shape))
    video = torch.randn(1, 3, 9, 32, 32, requires_grad=True)
    encoder.embed(video).square().sum().backward()
    # ClipBERT and CVRL look at every other frame, the small TimeSformer at the first and the last.
    read = {"i3d": list(range(9)), "timesformer": [0, 8]}.get(name, [0, 2, 4, 6, 8])
    assert (video.grad[:, :, read].abs().amax((3, 4)) > 0).all()


@pytest.mark.parametrize(
    "config,parameters", [(i3d.Config.paper(), 12_697_264), (timesformer.Config.paper(), 121_566_352)]
)
def test_paper_sizes_have_as_many_parameters_as_published(config, parameters):
    with torch.device("meta"):
        assert sum(value.numel() for value in config.build().parameters()) == parameters


def in_the_converted_naming(state):
    """Names as in the public files converted from TensorFlow; they count no batches."""
    found = {}
    for key, value in state.items():
        top, *rest = key.split(".")
        parts = [top[0].lower() + top[1:] if top != "logits" else "conv3d_0c_1x1", *rest]
        branch = {"b0": ["branch_0"], "b1a": ["branch_1", "0"], "b1b": ["branch_1", "1"], "b2a": ["branch_2", "0"]}
        branch |= {"b2b": ["branch_2", "1"], "b3b": ["branch_3", "1"], "bn": ["batch3d"]}
        spelled = [part for one in parts for part in branch.get(one, [one])]
        found[".".join(spelled)] = value
    return found


@pytest.mark.parametrize("naming", ["pytorch", "converted", "under state_dict"])
def test_i3d_opens_public_weights_from_their_files(naming, tmp_path):
    config = i3d.Config.tiny()
    source = config.build()
    with torch.no_grad():
        for value in source.state_dict().values():
            value.copy_(torch.rand(value.shape) + 0.5)
    state = {k: v for k, v in source.network.state_dict().items() if not k.endswith("num_batches_tracked")}
    shaped = {"pytorch": state, "converted": in_the_converted_naming(state), "under state_dict": {"state_dict": state}}
    torch.save(shaped[naming], tmp_path / "weights.pt")
    opened = config.model_copy(update={"weights": str(tmp_path / "weights.pt")}).build()
    assert opened.config == config, "what was opened needs its file no more"
    assert (opened.features(some_clips()) == source.features(some_clips())).all()
    logits = config.model_copy(update={"weights": str(tmp_path / "weights.pt"), "read": "logits"}).build()
    assert torch.equal(
        logits.eval().embed(torch.ones(1, 3, 9, 32, 32)), source.eval().logits(torch.ones(1, 3, 9, 32, 32))
    )


def test_full_size_names_are_those_of_both_public_files():
    with torch.device("meta"):
        state = i3d.Config.paper().build().network.state_dict()
    assert {"Conv3d_1a_7x7.conv3d.weight", "Mixed_5c.b3b.bn.running_var", "logits.conv3d.bias"} <= state.keys()
    told = in_the_converted_naming(state)
    assert {
        "conv3d_1a_7x7.batch3d.weight",
        "mixed_5c.branch_3.1.conv3d.weight",
        "conv3d_0c_1x1.conv3d.bias",
    } <= told.keys()
    assert renamed(told).keys() == state.keys()


def test_weights_that_are_no_i3d_are_refused_with_a_sentence(tmp_path):
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pt")
    (tmp_path / "rubbish.pt").write_bytes(b"nothing")
    config = i3d.Config.tiny()
    for file, words in (("other.pt", "not those of this I3D"), ("rubbish.pt", "cannot be read"), ("no.pt", "cannot")):
        with pytest.raises(VidgenError, match=words):
            config.model_copy(update={"weights": str(tmp_path / file)}).build()


def test_muon_may_take_the_matrices_within_blocks_and_nothing_at_the_ends():
    named = built("timesformer").players()["encoder"].hidden
    assert {name.removeprefix("network.blocks.0.") for name in named if ".blocks.0." in name} == {
        "attention.to_qkv.weight", "attention.to_out.weight", "mlp.0.weight", "mlp.2.weight",
    }  # fmt: skip
    assert all(name.startswith("network.blocks.") for name in named)
    assert not built("i3d").players()["encoder"].hidden


@pytest.mark.parametrize("name", ["i3d", "timesformer"])
def test_the_order_of_frames_matters_once_time_was_learned(name):
    encoder = built(name).eval()
    with torch.no_grad():
        for values in encoder.parameters():
            values.add_(0.05 * torch.randn(values.shape))
    video = torch.randn(1, 3, 9, 32, 32)
    assert not torch.allclose(encoder.embed(video), encoder.embed(video.flip(2)), atol=1e-5)


@pytest.mark.parametrize("name", ["i3d", "timesformer"])
def test_a_still_clip_has_no_order(name):
    encoder = built(name).eval()
    still = torch.randn(1, 3, 1, 32, 32).expand(-1, -1, 9, -1, -1)
    assert torch.equal(encoder.embed(still), encoder.embed(still.flip(2)))


def test_an_untrained_divided_timesformer_reads_frames_without_their_order_and_a_still_clip_as_space_alone():
    config = built("timesformer").config
    published = {"attention": "divided", "frames": 9, "places": "noise", "stem": ()}
    divided = config.model_copy(update={"network": config.network.model_copy(update=published)}).build().eval()
    with torch.no_grad():
        divided.network.class_token.normal_()
    video = torch.randn(2, 3, 9, 32, 32)
    assert torch.allclose(divided.embed(video), divided.embed(video.flip(2)), atol=1e-5)
    config = divided.config
    space = config.model_copy(update={"network": config.network.model_copy(update={"attention": "space"})}).build()
    own = divided.state_dict()
    space.load_state_dict({name: own[name] for name in space.state_dict()})
    still = video[:, :, :1].expand(-1, -1, 9, -1, -1)
    assert torch.allclose(divided.embed(still), space.eval().embed(still), atol=1e-5)


def test_held_out_accuracy_is_that_of_the_likeliest_class():
    encoder = built("timesformer").eval()
    video = torch.randn(4, 3, 9, 32, 32)
    right = encoder.logits(video).argmax(1)
    labels = torch.where(torch.tensor([True, True, False, True]), right, (right + 1) % 12).float()
    told = encoder.held_out(Batch(video, None, torch.arange(4), {"label": labels}), Chance(0))
    assert told["accuracy"].tolist() == [1, 1, 0, 1]
    expected = F.cross_entropy(encoder.logits(video), labels.long(), reduction="none")
    assert torch.allclose(told["loss"], expected)


def test_views_change_all_frames_of_a_clip_alike_and_nothing_where_they_are_told_nothing():
    still = torch.rand(3, 3, 1, 16, 16).expand(-1, -1, 4, -1, -1) * 2 - 1
    draws = torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    views = [
        cropped(still, draws, least_area=0.3, widest=2.0, flips=0.5),
        recolored(still, draws, strength=0.8, hue=0.2, gray=0.2),
        blurred(still, draws[:, :2], share=0.7),
        solarized(still, draws[:, :1], share=0.5),
        resized(still, 12),
    ]
    for view in views:
        assert torch.allclose(view, view[:, :, :1].expand_as(view), atol=1e-6)
        assert view.abs().max() <= 1 + 1e-6
    same = cropped(still, torch.full((3, 5), 0.5), least_area=1.0)
    assert torch.allclose(same, still, atol=1e-5)
    assert torch.allclose(recolored(still, torch.full((3, 5), 0.5), strength=0.8, hue=0.2), still, atol=1e-5)
    assert torch.equal(blurred(still, draws[:, :2], share=0.0), still)
    assert torch.equal(resized(still, 16), still)
    mirrored = cropped(still, torch.zeros(3, 5), least_area=1.0, flips=1.0)
    assert torch.allclose(mirrored, still.flip(-1), atol=1e-5)


def test_frames_are_spread_over_a_clip_from_end_to_end():
    assert times(9, 9) == list(range(9))
    assert times(32, 8)[0] == 0
    assert times(32, 8)[-1] == 31
    assert times(1, 3) == [0, 0, 0]
