"""The tiny image autoencoder, with real weights where they are."""

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vidgen_core import weights
from vidgen_core.codecs._open import open_codec
from vidgen_core.codecs.tae import Config
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import to_unit


def pictures(folder, count=12):
    """A picture of each of some clips, 256 x 256."""
    files = sorted(file for file in folder.rglob("*.mp4") if "broken" not in file.name)
    for file in files[:: max(1, len(files) // count)][:count]:
        with av.open(str(file)) as container:
            frame = next(container.decode(video=0), None)
        if frame is not None:
            yield np.asarray(Image.fromarray(frame.to_ndarray(format="rgb24")).resize((256, 256), Image.BICUBIC))


def psnr_db(one, other):
    return 10 * torch.log10(4 / (one - other).square().flatten(1).mean(1))


@torch.no_grad()
def test_real_weights_give_real_pictures_back(shared_weights, shared_data):
    codec = Config(path=str(shared_weights / "tae")).build().eval()
    clip = to_unit(torch.from_numpy(np.stack([p[None] for p in pictures(shared_data)])))
    latents = codec.encode(clip)
    assert latents.shape[1:] == codec.latent_shape(1, 256, 256) == (32, 1, 32, 32)
    found = psnr_db(codec.decode(latents), clip)
    # Measured on 38 other pictures: least 25.9, median 34.3, most 42.1 dB, and 9.6 dB with channels shuffled.
    assert 31 < found.median() < 38
    assert found.min() > 24
    assert 0.6 < latents.std() < 1.1
    turned = codec.decode(latents[:, torch.randperm(32, generator=torch.Generator().manual_seed(0))])
    assert psnr_db(turned, clip).median() < 14


@torch.no_grad()
def test_a_frame_is_coded_by_itself_and_a_saved_codec_needs_no_path(shared_weights, tmp_path):
    codec = Config(path=str(shared_weights / "tae")).build().eval()
    clip = torch.rand(2, 3, 5, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = codec.encode(clip)
    assert torch.allclose(latents[:, :, 3:4], codec.encode(clip[:, :, 3:4]), atol=1e-5)
    weights.save(tmp_path / "codec", codec.state_dict(), {"name": "tae", "config": codec.config.model_dump()})
    again = open_codec(tmp_path / "codec")
    assert again.config.path == ""
    assert torch.equal(again.encode(clip), latents)
    assert torch.equal(again.decode(latents), codec.decode(latents))


def test_a_folder_without_such_weights_is_a_sentence(tmp_path):
    with pytest.raises(VidgenError, match=r"codec\.path"):
        Config(path=str(tmp_path)).build()
    for side in ("encoder", "decoder"):
        torch.save({"0.weight": torch.zeros(3)}, tmp_path / f"{side}.pth")
    with pytest.raises(VidgenError, match="tiny image autoencoder"):
        Config(path=str(tmp_path)).build()
    (tmp_path / "encoder.pth").write_bytes(b"nothing")
    with pytest.raises(VidgenError, match=r"encoder\.pth"):
        Config(path=str(tmp_path)).build()


def test_a_clip_that_does_not_fit_is_refused_with_one_that_does():
    with pytest.raises(VidgenError, match=r"data\.height to 24"):
        Config().build().latent_shape(3, 30, 32)
