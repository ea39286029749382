"""What `vidgen sample` does around given files, and what it refuses."""

import numpy as np
import pytest
from PIL import Image

from data_prep.given import read_video
from flows import sampling
from flows.home import Home
from flows.wishes import Wish
from tests.vidgen_core.applications.conftest import FRAMES, SIDE, generator_of
from vidgen_core.clip import encode
from vidgen_core.errors import VidgenError
from vidgen_core.families import flow_matching, gan
from vidgen_core.networks import factorized_dit

SMALL = flow_matching.Config(network=factorized_dit.Config(dim=16, depth=1, heads=2))


@pytest.fixture(scope="module")
def able():
    return generator_of("flow_matching", SMALL)


@pytest.fixture
def files(tmp_path):
    """A picture, a video of 12 frames of twice the model's size, and a short one."""
    shades = np.linspace(60, 180, 12).astype(np.uint8)
    video = np.broadcast_to(shades[:, None, None, None], (12, 2 * SIDE, 2 * SIDE, 3)).copy()
    for name, clip in (("video.mp4", video), ("short.mp4", video[:2])):
        (tmp_path / name).write_bytes(encode(clip, "8"))
    Image.fromarray(video[3]).save(tmp_path / "picture.png")
    return tmp_path


@pytest.fixture
def draw(monkeypatch, files, able):
    def act(generator=able, **wish):
        monkeypatch.setattr(sampling, "fetch", lambda *_, **__: files)
        monkeypatch.setattr(sampling.Generator, "load", lambda _: generator)
        out = files / "out.mp4"
        notes = sampling.draw(
            Home(files), "m@champion", ["a red square"], out, seed=0, changes={}, conditions=[], wish=Wish(**wish)
        )  # fmt: skip
        # Small videos are enlarged to 128 pixels.
        return read_video(out, 8 * SIDE, 8 * SIDE, "8").video, " ".join(notes)

    return act


def shade(video, frame):
    return video[frame].mean()


def test_each_wish_keeps_what_is_given(draw, files):
    picture, video = files / "picture.png", files / "video.mp4"
    made, told = draw(image=picture)
    assert (len(made), "32x32; its middle is taken at 16x16" in told) == (FRAMES, True)
    assert shade(made, 0) == pytest.approx(92, abs=3)
    made, told = draw(extend=video, frames=17)
    assert len(made) == 17
    assert [shade(made, n) for n in range(12)] == pytest.approx(np.linspace(60, 180, 12), abs=3)
    made, told = draw(interpolate=picture, until=picture)
    assert (shade(made, 0), shade(made, -1)) == (pytest.approx(92, abs=3), pytest.approx(92, abs=3))
    made, told = draw(interpolate=video)
    assert "the first 9 are taken" in told
    assert shade(made, 8) == pytest.approx(60 + 120 * 8 / 11, abs=3)
    made, told = draw(inpaint=video, mask="0,0,16,32")
    assert "Of the latents 50% were known" in told
    assert made[5, :, 68:].mean() == pytest.approx(60 + 120 * 5 / 11, abs=3)


def test_mistakes_get_a_sentence(draw, files):
    picture, video, short = files / "picture.png", files / "video.mp4", files / "short.mp4"
    for expected, wish in (
        ("One thing at a time", {"image": picture, "extend": video}),
        ("--frames says belongs to --extend", {"image": picture, "frames": 9}),
        ("a second file says belongs to --interpolate", {"until": picture}),
        ("not said what to draw anew", {"inpaint": video}),
        ("too few frames", {"inpaint": short, "mask": "0,0,4,4"}),
        ("too few frames", {"interpolate": short}),
        ("whole videos only", {"image": picture, "generator": generator_of("gan", gan.Config.tiny())}),
    ):
        with pytest.raises(VidgenError, match=expected):
            draw(**wish)
