"""TransNet V2. Soucek and Lokoc 2020, "TransNet V2: An effective deep network architecture for fast shot transition
detection" (arXiv:2008.04838).

Written from the paper. Parameters are named as in the PyTorch weights that its authors publish, so that their file
loads as it is; no weights come with vidgen.
"""  # noqa: D205

from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.shot_detectors._contract import Detector, ShotSettings, Thumbs, Transition
from vidgen_core.errors import VidgenError

__all__ = ["VERSION", "TransNetV2", "open_detector"]

VERSION = 1
_THRESHOLD = 0.5
_DILATIONS = (1, 2, 4, 8)
_LOOKUP_FRAMES = 101
_WINDOW_FRAMES, _CONTEXT_FRAMES = 100, 25  # section 3.4: of each window the middle half is used

Features = Float[Tensor, "batch channels frames height width"]
PerFrame = Float[Tensor, "batch frames dim"]


def open_detector(settings: ShotSettings) -> Detector:
    """One for a source; `threshold` is the probability above which a frame is in a transition.

    Raises:
        VidgenError: There are no weights, or they are not TransNet V2's.

    """
    if settings.weights is None:
        raise VidgenError("transnet_v2 needs its checkpoint", move="Give --set data.shots.weights=PATH")
    return _Windows(_load(settings.weights), _THRESHOLD if settings.threshold is None else settings.threshold)


class TransNetV2(nn.Module):
    """From pictures of 48 x 27 to two logits a frame: the middle of a transition, and any part of one (section 3).

    Args:
        filters: Filters of each convolution of the first cell; they double from cell to cell.
        cells: Number of cells.
        blocks: Dilated blocks a cell.
        dim: Width of the last hidden layer.

    """

    def __init__(self, filters: int = 16, cells: int = 3, blocks: int = 2, dim: int = 1024) -> None:
        super().__init__()
        widths = [filters * 2**cell for cell in range(cells)]
        outs = [len(_DILATIONS) * width for width in widths]
        self.SDDCNN = nn.ModuleList(
            _Cell(entering, width, blocks) for entering, width in zip([3, *outs], widths, strict=False)
        )
        self.frame_sim_layer = _LearnedSimilarity(sum(outs))
        self.color_hist_layer = _ColorSimilarity()
        self.fc1 = nn.Linear(outs[-1] * 3 * 6 + 2 * 128, dim)
        self.cls_layer1 = nn.Linear(dim, 1)
        self.cls_layer2 = nn.Linear(dim, 1)

    def forward(
        self, thumbs: UInt8[Tensor, "batch frames 27 48 3"]
    ) -> tuple[Float[Tensor, "batch frames"], Float[Tensor, "batch frames"]]:
        """Logits of "a transition has its middle here" and of "a transition is here"."""
        x = thumbs.movedim(-1, 1).float() / 255
        levels = []
        for cell in self.SDDCNN:
            x = cell(x)
            levels.append(x)
        flat = x.permute(0, 2, 3, 4, 1).flatten(2)
        joined = torch.cat([self.color_hist_layer(thumbs), self.frame_sim_layer(levels), flat], dim=-1)
        hidden = F.relu(self.fc1(joined))
        return self.cls_layer1(hidden)[..., 0], self.cls_layer2(hidden)[..., 0]


class _Cell(nn.Module):
    """Dilated blocks with a skip from the first to the end, then halved in space (figure 1)."""

    def __init__(self, entering: int, filters: int, blocks: int) -> None:
        super().__init__()
        out = len(_DILATIONS) * filters
        self.DDCNN = nn.ModuleList(_DilatedBlock(out if place else entering, filters) for place in range(blocks))

    def forward(self, x: Features) -> Features:
        first = F.relu(self.DDCNN[0](x))
        x = first
        for block in self.DDCNN[1:]:
            x = F.relu(block(x))
        return F.avg_pool3d(x + first, (1, 2, 2))


class _DilatedBlock(nn.Module):
    """Four convolutions side by side, which reach 3, 5, 9 and 17 frames (section 3.1)."""

    def __init__(self, entering: int, filters: int) -> None:
        super().__init__()
        for dilation in _DILATIONS:
            self.add_module(f"Conv3D_{dilation}", _SpaceThenTime(entering, filters, dilation))
        self.bn = nn.BatchNorm3d(len(_DILATIONS) * filters, eps=1e-3)

    def forward(self, x: Features) -> Features:
        sides = [self.get_submodule(f"Conv3D_{dilation}")(x) for dilation in _DILATIONS]
        return self.bn(torch.cat(sides, dim=1))


class _SpaceThenTime(nn.Module):
    """A 3 x 3 x 3 convolution factorized into space and time."""

    def __init__(self, entering: int, filters: int, dilation: int) -> None:
        super().__init__()
        space = nn.Conv3d(entering, 2 * filters, (1, 3, 3), padding=(0, 1, 1), bias=False)
        time = nn.Conv3d(
            2 * filters, filters, (3, 1, 1), dilation=(dilation, 1, 1), padding=(dilation, 0, 0), bias=False
        )
        self.layers = nn.Sequential(space, time)

    def forward(self, x: Features) -> Features:
        return self.layers(x)


class _LearnedSimilarity(nn.Module):
    """Similarity of each frame to its neighbors by learned features (section 3.2)."""

    def __init__(self, entering: int) -> None:
        super().__init__()
        self.projection = nn.Linear(entering, 128)
        self.fc = nn.Linear(_LOOKUP_FRAMES, 128)

    def forward(self, levels: list[Features]) -> PerFrame:
        means = torch.cat([level.mean((3, 4)) for level in levels], dim=1).transpose(1, 2)
        return F.relu(self.fc(_similarities(self.projection(means))))


class _ColorSimilarity(nn.Module):
    """Similarity of each frame to its neighbors by histograms of 512 colors (section 3.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(_LOOKUP_FRAMES, 128)

    def forward(self, thumbs: UInt8[Tensor, "batch frames 27 48 3"]) -> PerFrame:
        red, green, blue = (thumbs.flatten(2, 3).long() >> 5).unbind(-1)
        bins = (red << 6) + (green << 3) + blue
        counts = torch.zeros(*bins.shape[:2], 512, device=bins.device).scatter_add_(
            2, bins, torch.ones_like(bins).float()
        )
        return F.relu(self.fc(_similarities(counts)))


def _similarities(features: PerFrame) -> PerFrame:
    """Cosines of each frame's features with those of the 50 frames before it, itself, and the 50 behind it."""
    unit = F.normalize(features, dim=-1)
    reach = _LOOKUP_FRAMES // 2
    padded = F.pad(unit @ unit.transpose(1, 2), (reach, reach))
    frames = padded.shape[1]
    place = torch.arange(frames, device=unit.device)[:, None] + torch.arange(_LOOKUP_FRAMES, device=unit.device)
    return padded.gather(2, place.expand(len(padded), -1, -1))


class _Windows:
    """Runs the network over overlapping windows as frames come; holds one window of them at a time."""

    def __init__(self, network: TransNetV2, threshold: float) -> None:
        self._network, self._threshold = network, threshold
        self._waiting: Thumbs | None = None
        self._frames = 0
        self._middles: list[np.ndarray] = []
        self._anywhere: list[np.ndarray] = []

    def push(self, thumbs: Thumbs) -> None:
        """Take the next frames."""
        if not len(thumbs):
            return
        # Before the first frame stand copies of it, behind the last copies of that one.
        before = np.repeat(thumbs[:1], _CONTEXT_FRAMES, axis=0) if self._waiting is None else self._waiting
        self._frames += len(thumbs)
        self._waiting = self._run(np.concatenate([before, thumbs]))

    def finish(self) -> list[Transition]:
        """Runs of frames above the threshold, as wide as the second head sees them."""
        if self._waiting is None:
            return []
        self._run(np.concatenate([self._waiting, np.repeat(self._waiting[-1:], _WINDOW_FRAMES, axis=0)]))
        middles = np.concatenate(self._middles)[: self._frames] > self._threshold
        anywhere = middles | (np.concatenate(self._anywhere)[: self._frames] > self._threshold)
        # The last frame of a shot bears the mark of the cut behind it.
        return [
            Transition(start + 1, stop)
            for start, stop in _runs(anywhere)
            if middles[start:stop].any() and stop < self._frames
        ]

    def _run(self, frames: Thumbs) -> Thumbs:
        """Spend all whole windows; returns what is left."""
        step = _WINDOW_FRAMES - 2 * _CONTEXT_FRAMES
        used = slice(_CONTEXT_FRAMES, _CONTEXT_FRAMES + step)
        while len(frames) >= _WINDOW_FRAMES:
            window = torch.from_numpy(np.ascontiguousarray(frames[:_WINDOW_FRAMES]))[None]
            with torch.inference_mode():
                middle, anywhere = self._network(window)
            self._middles.append(middle.sigmoid()[0, used].numpy())
            self._anywhere.append(anywhere.sigmoid()[0, used].numpy())
            frames = frames[step:]
        return frames


def _runs(marks: np.ndarray) -> list[tuple[int, int]]:
    """[start, stop) of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.r_[False, marks, False].astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _load(file: Path) -> TransNetV2:
    network = TransNetV2()
    try:
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except (OSError, UnpicklingError, RuntimeError, TypeError, KeyError) as error:
        raise VidgenError(
            f"{file} is no checkpoint of TransNet V2",
            got=str(error).splitlines()[0],
            allowed="the state dict that its authors' conversion to PyTorch writes",
        ) from error
    return network.eval()
