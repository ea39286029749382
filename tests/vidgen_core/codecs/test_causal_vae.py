"""Laws of the causal video autoencoder, with weights that are not at their start."""

import pytest
import torch

from vidgen_core.chance import Chance
from vidgen_core.codecs.causal_vae import CausalVAE, Config
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Batch

HALO = CausalVAE._halo
CONFIGS = {
    "tiny": Config.tiny(),
    "two levels": Config(channels=4, widths=(8, 12, 16), space_levels=1, time_levels=2, patch_px=2),
}


@pytest.fixture(params=CONFIGS, name="codec")
def _codec(request):
    torch.manual_seed(0)
    codec = CONFIGS[request.param].build().eval()
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return codec


def video(frames=9):
    return torch.rand(2, 3, frames, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def test_the_first_latent_of_a_video_is_the_latent_of_its_first_image(codec):
    assert torch.equal(codec.encode(video())[:, :, :1], codec.encode(video()[:, :, :1]))


@torch.no_grad()
def test_no_latent_and_no_frame_depends_on_the_future(codec):
    clip, changed = video(), video()
    changed[:, :, 5:] = -changed[:, :, 5:]
    kept = 1 + 4 // codec.time_stride
    assert torch.equal(codec.encode(clip)[:, :, :kept], codec.encode(changed)[:, :, :kept])
    assert not torch.equal(codec.encode(clip), codec.encode(changed))
    latents = codec.encode(clip)
    future = latents.clone()
    future[:, :, 2:] = 0
    frames = 1 + codec.time_stride
    assert torch.equal(codec.decode(latents)[:, :, :frames], codec.decode(future)[:, :, :frames])


@pytest.mark.parametrize("chunk", [1, 2, 3])
@torch.no_grad()
def test_a_long_video_in_chunks_is_the_whole_video(codec, chunk):
    clip = video(frames=33)
    posterior = (codec._posterior(clip)[0] - codec.shift) * codec.scale
    codec.chunk_latents = chunk
    latents = codec.encode(clip)
    assert latents.shape[1:] == codec.latent_shape(33, 16, 16)
    assert torch.allclose(latents, posterior, atol=2e-5)
    whole = codec._decode_raw(latents / codec.scale + codec.shift).clamp(-1, 1)
    assert torch.allclose(codec.decode(latents), whole, atol=2e-5)


@torch.no_grad()
def test_tiles_have_no_seams(codec):
    clip = torch.rand(1, 3, 5, 80, 112, generator=torch.Generator().manual_seed(2)) * 2 - 1
    latents = codec.encode(clip)
    frames = codec.decode(latents)
    codec.tile_latents = 5
    assert torch.allclose(codec.encode(clip), latents, atol=2e-5)
    assert torch.allclose(codec.decode(latents), frames, atol=2e-5)
    # As far as a tile sees is needed: with one place less there are seams.
    least = codec._halo
    type(codec)._halo = property(lambda self: least - 1)
    try:
        encoded, decoded = codec.encode(clip), codec.decode(latents)
    finally:
        type(codec)._halo = HALO
    assert not (torch.allclose(encoded, latents, atol=2e-5) and torch.allclose(decoded, frames, atol=2e-5))


@torch.no_grad()
def test_shapes_are_as_told_and_come_back(codec):
    latents = codec.encode(video())
    assert latents.shape[1:] == codec.latent_shape(9, 16, 16)
    assert codec.decode(latents).shape == video().shape


def test_a_clip_that_does_not_fit_is_refused_with_one_that_does(codec):
    with pytest.raises(VidgenError, match=r"data\.frames to 9"):
        codec.latent_shape(10, 16, 16)


@torch.no_grad()
def test_measuring_makes_latents_standard_and_keeps_the_pictures(codec):
    before = codec.decode(codec.encode(video()))
    codec.measure(codec.encode(video()))
    latents = codec.encode(video())
    assert latents.mean((0, 2, 3, 4)).abs().max() < 1e-4
    assert (latents.std((0, 2, 3, 4)) - 1).abs().max() < 1e-3
    assert torch.allclose(codec.decode(latents), before, atol=1e-4)
    codec.measure(latents)
    assert torch.allclose(codec.encode(video()), latents, atol=1e-3)


@torch.no_grad()
def test_untrained_it_is_a_cosine_transform_coder():
    """Against scipy's transform of each block, color by color, keeping the same coefficients."""
    codec = Config(channels=3 * 2 * 16).build()
    clip = video()
    coded = codec.encode(clip)
    energy = clip.square().sum() + clip[:, :, :1].square().sum()  # the first frame fills its block of two
    assert torch.allclose(coded.square().sum(), energy, rtol=1e-4)
    assert torch.allclose(codec.decode(coded), clip, atol=1e-4)
    gray = torch.full((1, 3, 1, 4, 4), 0.5)
    assert torch.allclose(codec.encode(gray).flatten()[1:], torch.zeros(95), atol=1e-5)


@torch.no_grad()
def test_fewer_channels_keep_the_smooth_part():
    smooth = torch.nn.functional.interpolate(video(), size=(9, 64, 64), mode="trilinear")
    errors = [
        Config(channels=count).build().held_out(Batch(smooth, None, torch.arange(2)), Chance(0))["loss"].mean()
        for count in (2, 4, 8, 16, 32)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * errors[0]


def test_it_learns_one_batch():
    torch.manual_seed(0)
    codec = Config(widths=(32, 32)).build()
    clip = torch.nn.functional.interpolate(video(), size=(9, 16, 16), mode="trilinear")
    batch = Batch(clip, None, torch.arange(2))
    optimizer = torch.optim.Adam(codec.parameters(), 3e-3)
    first = codec.held_out(batch, Chance(0))["psnr_db"].mean()
    for step in range(40):
        for _, loss in codec.losses(batch, Chance(0, ("step", step))):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert codec.held_out(batch, Chance(0))["psnr_db"].mean() > first + 4
