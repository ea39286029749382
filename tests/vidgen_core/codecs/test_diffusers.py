"""Autoencoders of diffusers, as tiny random models in the real format."""

import pytest
import torch

from vidgen_core import weights
from vidgen_core.codecs._open import open_codec
from vidgen_core.codecs.diffusers import Config
from vidgen_core.errors import VidgenError

diffusers = pytest.importorskip("diffusers", reason="diffusers is an extra")

IMAGE = {
    "block_out_channels": (8, 16), "latent_channels": 3, "layers_per_block": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
}  # fmt: skip
# Class -> its configuration, and (channels, stride in time, stride in space).
MODELS = {
    "AutoencoderKL": (
        {**IMAGE, "norm_num_groups": 4, "up_block_types": ("UpDecoderBlock2D",) * 2, "scaling_factor": 0.36,
         "shift_factor": 0.11},
        (3, 1, 2),
    ),
    "AutoencoderKLTemporalDecoder": ({**IMAGE, "block_out_channels": (32, 32), "scaling_factor": 0.18}, (3, 1, 2)),
    "AutoencoderTiny": (
        {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8), "latent_channels": 3,
         "num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)},
        (3, 1, 2),
    ),
    "AutoencoderKLWan": (
        {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 2], "num_res_blocks": 1, "temperal_downsample": [False, True],
         "latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [1.5, 2.0, 0.5, 1.0], "scale_factor_temporal": 2,
         "scale_factor_spatial": 4},
        (4, 2, 4),
    ),
    "AutoencoderKLCogVideoX": (
        {"down_block_types": ("CogVideoXDownBlock3D",) * 3, "up_block_types": ("CogVideoXUpBlock3D",) * 3,
         "block_out_channels": (8, 8, 8), "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 4},
        (4, 4, 4),
    ),
    "AutoencoderKLHunyuanVideo": (
        {"block_out_channels": (8, 8, 8, 8), "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 4,
         "mid_block_add_attention": False},
        (4, 4, 8),
    ),
    "AutoencoderKLLTXVideo": (
        {"latent_channels": 8, "block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (8, 8, 8, 8),
         "layers_per_block": (1, 1, 1, 1, 1), "decoder_layers_per_block": (1, 1, 1, 1, 1),
         "spatial_compression_ratio": 32, "temporal_compression_ratio": 8},
        (8, 8, 32),
    ),
}  # fmt: skip


@pytest.fixture(params=MODELS, scope="module", name="made")
def _made(request, tmp_path_factory):
    """A model, the folder that diffusers wrote, and its strides."""
    config, strides = MODELS[request.param]
    torch.manual_seed(0)
    model = getattr(diffusers, request.param)(**config).eval()
    if request.param == "AutoencoderKLLTXVideo":
        model.latents_mean.normal_()
        model.latents_std.uniform_(0.5, 2.0)
    folder = tmp_path_factory.mktemp("models") / "pipeline"
    model.save_pretrained(folder / "vae")
    return model, folder, strides


@pytest.fixture(name="codec")
def _codec(made):
    return Config(path=str(made[1]), subfolder="vae").build().eval()


def video(frames=9, side=32):
    return torch.rand(2, 3, frames, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def test_shapes_are_as_told_and_come_back(codec, made):
    assert (codec.channels, codec.time_stride, codec.space_stride) == made[2]
    latents = codec.encode(video())
    assert latents.shape[1:] == codec.latent_shape(9, 32, 32)
    frames = codec.decode(latents)
    assert frames.shape == video().shape
    assert frames.abs().max() <= 1


@torch.no_grad()
def test_latents_are_those_of_the_library_normalized_as_published(codec, made):
    model, config = made[0], made[0].config
    encoded = model.encode(flat() if pictures(made) else video())
    raw = encoded.latents if "Tiny" in type(model).__name__ else encoded.latent_dist.mean
    raw = raw.unflatten(0, (2, -1)).transpose(1, 2) if pictures(made) else raw
    mean, std = config.get("shift_factor") or 0.0, 1.0
    if config.get("latents_mean"):
        mean, std = (torch.tensor(config[name]).view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    if "LTX" in type(model).__name__:
        mean, std = model.latents_mean.view(1, -1, 1, 1, 1), model.latents_std.view(1, -1, 1, 1, 1)
    expected = (raw - mean) / std * (config.get("scaling_factor") or 1.0)
    assert torch.allclose(codec.encode(video()), expected, atol=1e-5)


@torch.no_grad()
def test_what_is_saved_of_a_codec_needs_the_path_no_more(codec, tmp_path):
    weights.save(tmp_path / "codec", codec.state_dict(), {"name": "diffusers", "config": codec.config.model_dump()})
    again = open_codec(tmp_path / "codec")
    assert again.config.path == ""
    assert weights.digest(tmp_path / "codec") == weights.digest_of(codec.state_dict())
    assert torch.equal(again.encode(video()), codec.encode(video()))
    assert (again.shift == codec.shift).all()
    assert (again.scale == codec.scale).all()


@torch.no_grad()
def test_a_codec_that_says_it_is_causal_is(codec):
    changed = video()
    changed[:, :, 5:] = -changed[:, :, 5:]
    kept = 1 + 4 // codec.time_stride
    same = torch.allclose(codec.encode(video())[:, :, :kept], codec.encode(changed)[:, :, :kept], atol=1e-6)
    assert same or not codec.causal
    first = codec.encode(video()[:, :, :1])
    assert not codec.causal or torch.allclose(codec.encode(video())[:, :, :1], first, atol=1e-5)


def pictures(made):
    return made[2][1] == 1


def flat():
    return video().transpose(1, 2).flatten(0, 1)


def test_what_is_no_autoencoder_is_a_sentence(tmp_path):
    with pytest.raises(VidgenError, match=r"codec\.path"):
        Config(path=str(tmp_path)).build()
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKLWam"}')
    with pytest.raises(VidgenError, match="AutoencoderKLWan"):
        Config(path=str(tmp_path)).build()
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(VidgenError, match=r"codec\.path"):
        Config(path=str(tmp_path)).build()
