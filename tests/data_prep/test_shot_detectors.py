"""Laws of the detectors beside our own: TransNet V2 against a second writing of it, PySceneDetect behind its door."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data_prep.shot_detectors import transnet_v2
from data_prep.shot_detectors.transnet_v2 import TransNetV2, open_detector
from data_prep.shots import ShotFinder, ShotSettings, Transition, version
from vidgen_core.errors import VidgenError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights under the published names, with running statistics that are not those of a new network."""
    torch.manual_seed(0)
    weights = {}
    for name, shape in published_shapes().items():
        weights[name] = 2 * torch.randn(shape) / max(1, np.prod(shape[1:])) ** 0.5
        if name.endswith("running_var") or name.endswith("bn.weight"):
            weights[name] = torch.rand(shape) + 0.5
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(7)
    file = tmp_path_factory.mktemp("weights") / "transnetv2.pth"
    torch.save(weights, file)
    return file


def published_shapes():
    """The names in the file of weights that the authors publish for PyTorch, and their shapes."""
    shapes = {}
    for cell in range(3):
        filters = 16 * 2**cell
        for block in range(2):
            entering = 4 * filters if block else (3, 64, 128)[cell]
            at = f"SDDCNN.{cell}.DDCNN.{block}"
            for dilation in (1, 2, 4, 8):
                shapes[f"{at}.Conv3D_{dilation}.layers.0.weight"] = (2 * filters, entering, 1, 3, 3)
                shapes[f"{at}.Conv3D_{dilation}.layers.1.weight"] = (filters, 2 * filters, 3, 1, 1)
            shapes |= {f"{at}.bn.{part}": (4 * filters,) for part in ("weight", "bias", "running_mean", "running_var")}
            shapes[f"{at}.bn.num_batches_tracked"] = ()
    for name, entering, leaving in (
        ("frame_sim_layer.projection", 448, 128),
        ("frame_sim_layer.fc", 101, 128),
        ("color_hist_layer.fc", 101, 128),
        ("fc1", 256 * 18 + 256, 1024),
        ("cls_layer1", 1024, 1),
        ("cls_layer2", 1024, 1),
    ):
        shapes |= {f"{name}.weight": (leaving, entering), f"{name}.bias": (leaving,)}
    return shapes


def again(weights, thumbs):
    """TransNet V2 a second time: plain functions of the weights, loops where those are simpler; logits [frames, 2]."""
    x = torch.from_numpy(thumbs).permute(3, 0, 1, 2)[None].float() / 255
    means = []
    for cell in range(3):
        first = block(weights, f"SDDCNN.{cell}.DDCNN.0", x).relu()
        second = block(weights, f"SDDCNN.{cell}.DDCNN.1", first).relu()
        x = F.avg_pool3d(first + second, (1, 2, 2))
        means.append(x.mean((3, 4))[0].T)
    flat = x[0].permute(1, 2, 3, 0).reshape(len(thumbs), -1)
    learned = linear(weights, "frame_sim_layer.projection", torch.cat(means, 1))
    parts = [near(weights, "color_hist_layer.fc", colors(thumbs)), near(weights, "frame_sim_layer.fc", learned), flat]
    hidden = linear(weights, "fc1", torch.cat(parts, 1)).relu()
    return torch.cat([linear(weights, f"cls_layer{head}", hidden) for head in (1, 2)], 1)


def block(weights, at, x):
    sides = []
    for dilation in (1, 2, 4, 8):
        space = F.conv3d(x, weights[f"{at}.Conv3D_{dilation}.layers.0.weight"], padding=(0, 1, 1))
        time = weights[f"{at}.Conv3D_{dilation}.layers.1.weight"]
        sides.append(F.conv3d(space, time, padding=(dilation, 0, 0), dilation=(dilation, 1, 1)))
    mean, var, gain, bias = (
        weights[f"{at}.bn.{part}"].view(1, -1, 1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (torch.cat(sides, 1) - mean) / (var + 1e-3).sqrt() * gain + bias


def linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def near(weights, name, features):
    """Cosines with the 50 frames on each side; 0 where there is no frame."""
    frames = len(features)
    cosines = torch.zeros(frames, 101)
    for here in range(frames):
        for there in range(max(0, here - 50), min(frames, here + 51)):
            cosines[here, there - here + 50] = F.cosine_similarity(features[here], features[there], dim=0)
    return linear(weights, name, cosines).relu()


def colors(thumbs):
    out = torch.zeros(len(thumbs), 512)
    for frame, picture in enumerate(thumbs.reshape(len(thumbs), -1, 3).astype(int) // 32):
        bins = picture @ np.array([64, 8, 1])
        out[frame] = torch.from_numpy(np.bincount(bins, minlength=512)).float()
    return out


def noise(frames, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (1 + frames // 9, 27, 48, 3))
    shots = np.repeat(base, 9, axis=0)[:frames] + rng.integers(-20, 21, (frames, 27, 48, 3))
    return shots.clip(0, 255).astype(np.uint8)


def test_transnet_v2_takes_the_published_names_and_computes_what_a_second_writing_does(checkpoint):
    weights = torch.load(checkpoint, weights_only=True)
    network = TransNetV2().eval()
    network.load_state_dict(weights)
    thumbs = noise(100)
    with torch.inference_mode():
        ours = torch.stack(network(torch.from_numpy(thumbs)[None]), dim=-1)[0]
        theirs = again(weights, thumbs)
    assert ours.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def around(window):
    """Stands for the network where only windows matter: two logits that depend on 25 frames on each side."""
    levels = F.pad(window.float().mean((2, 3, 4)), (25, 25)).unfold(1, 51, 1)
    weights = torch.linspace(-1, 1, 51)
    return (levels * weights).sum(-1) - 300, (levels * weights.abs()).sum(-1) - 3300


@pytest.mark.parametrize("frames", [1, 49, 50, 51, 75, 100, 433])
def test_transnet_v2_in_pieces_is_transnet_v2_over_padded_windows_of_the_whole(frames, monkeypatch):
    monkeypatch.setattr(transnet_v2, "_load", lambda file: around)
    levels = np.repeat(np.random.default_rng(1).integers(0, 256, frames // 9 + 1, np.uint8), 9)[:frames]
    thumbs = np.broadcast_to(levels[:, None, None, None], (frames, 27, 48, 3)).copy()
    ends = 25 + -frames % 50
    padded = np.concatenate([np.repeat(thumbs[:1], 25, 0), thumbs, np.repeat(thumbs[-1:], ends, 0)])
    windows = [around(torch.from_numpy(padded[at : at + 100])[None]) for at in range(0, len(padded) - 50, 50)]
    middle, anywhere = (torch.cat([w[head][0, 25:75] for w in windows])[:frames].sigmoid().numpy() for head in (0, 1))
    marks = "".join("m" if m > 0.5 else "a" if a > 0.5 else "." for m, a in zip(middle, anywhere, strict=True))
    runs = [run.span() for run in re.finditer("[ma]+", marks) if "m" in run.group()]
    expected = [Transition(start + 1, stop) for start, stop in runs if stop < frames]
    for size in (1, 7, 500):
        detector = open_detector(ShotSettings(detector="transnet_v2", weights=Path("any")))
        for at in range(0, frames, size):
            detector.push(thumbs[at : at + size])
        assert detector.finish() == expected
    assert frames < 400 or len(expected) > 3, marks


def test_what_is_no_checkpoint_of_transnet_v2_gets_a_sentence(tmp_path):
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, other)
    text = tmp_path / "page.pth"
    text.write_text("<html>")
    for weights in (other, text, tmp_path / "nowhere.pth"):
        with pytest.raises(VidgenError, match="no checkpoint of TransNet V2"):
            version(ShotSettings(detector="transnet_v2", weights=weights))
    with pytest.raises(VidgenError, match=r"data\.shots\.weights"):
        version(ShotSettings(detector="transnet_v2"))


def test_the_version_follows_the_weights_and_not_their_place(checkpoint, tmp_path):
    moved = tmp_path / "moved.pth"
    moved.write_bytes(checkpoint.read_bytes())
    settings = [ShotSettings(detector="transnet_v2", weights=weights) for weights in (checkpoint, moved)]
    assert version(settings[0]) == version(settings[1])
    changed = torch.load(checkpoint, weights_only=True)
    changed["cls_layer1.bias"] += 1
    torch.save(changed, moved)
    assert version(settings[0]) != version(settings[1])


@pytest.mark.parametrize("name", ["adaptive", "content"])
def test_pyscenedetects_detectors_find_on_thumbnails_what_pyscenedetect_finds(name):
    scenedetect = pytest.importorskip("scenedetect", reason="PySceneDetect is an extra: vidgen[shots]")
    thumbs = np.concatenate([noise(9, seed)[np.zeros(40, int)] for seed in range(4)])
    finder = ShotFinder(ShotSettings(detector=name))
    for part in np.array_split(thumbs, 7):
        finder.push(part)
    theirs = scenedetect.SceneManager()
    theirs.add_detector({"adaptive": scenedetect.AdaptiveDetector, "content": scenedetect.ContentDetector}[name]())
    detector = theirs._detector_list[0]
    cuts = []
    for frame, picture in enumerate(thumbs[..., ::-1]):
        cuts += detector.process_frame(scenedetect.FrameTimecode(frame, 24.0), np.ascontiguousarray(picture))
    cuts += detector.post_process(scenedetect.FrameTimecode(len(thumbs), 24.0))
    assert [cut.start for cut in finder.finish().transitions] == [cut.frame_num for cut in cuts] == [40, 80, 120]


def test_without_pyscenedetect_its_detectors_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(VidgenError, match="pip install"):
        version(ShotSettings(detector="adaptive"))
