"""An encoder that learns from clips without labels. Qian et al. 2021, "Spatiotemporal Contrastive Video Representation
Learning" (arXiv:2008.03800).

Two parts of one clip are to be alike and unlike those of all others. The parts are the likelier the closer they are in
time (section 3.2), and each is cropped and colored anew, the same way in all of its frames (section 3.3). Samples of
all workers are told apart, with their gradient: a run on another number of workers learns from other comparisons.
"""  # noqa: D205

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vidgen_core.chance import Chance
from vidgen_core.encoders._views import blurred, cropped, recolored, resized, solarized
from vidgen_core.interfaces import Batch, Frozen, Player, VideoEncoder, Work
from vidgen_core.layers.across import BatchNorm
from vidgen_core.layers.flops import Flops, product
from vidgen_core.networks.r3d import Config as Network
from vidgen_core.objectives.contrastive import info_nce
from vidgen_core.shapes import Index, Video

__all__ = ["CVRL", "Config", "distance", "starts"]


class Config(Frozen):
    """The encoder, its views and its objective.

    Args:
        network: The residual network.
        side_px: Frames are resized to this square.
        frames, stride: Frames of a view, and how far apart they are.
        head: Widths of the hidden layers that are used in training alone.
        dim: Width of what is compared.
        temperature: Of the comparison.
        least_area, widest: Crops keep this share of the picture at least, and are at most so much wider than high.
        flips: Share of views that are mirrored.
        color, hue, gray: Strength of the coloring, and the share of views that lose their color.
        recolored: Share of views that are recolored.
        blurs: Share of views that are blurred, of the first and the second.
        solarizes: Share of second views that are solarized.
        noise: Largest deviation of noise on a view, of values in [-1, 1], so that a copy that was encoded again is
            alike; ours.
        apart: Whether the network is given a clip's mean over time and what differs from it beside each other, six
            channels; ours, for a camera that stands still.
        all_stages: Whether features are of every stage, the averages and the maxima over space of what leaves it, and
            not the averages of the last alone; ours. A corner of a shape is a maximum, and hardly seen in an average.
        phases: Features of a clip are averaged over so many readings of it, each a frame later than the one before: the
            paper's test averages over ten parts of a video.
        moving: Share of views that are without that mean, so that the ground alone does not tell samples apart.

    """

    network: Network = Network()
    side_px: int = Field(224, gt=0)
    frames: int = Field(16, gt=0)
    stride: int = Field(2, gt=0)
    head: tuple[int, ...] = (2048, 2048, 2048)
    dim: int = 128
    temperature: float = Field(0.1, gt=0)
    least_area: float = Field(0.3, gt=0, le=1)
    widest: float = Field(2.0, ge=1)
    flips: float = Field(0.5, ge=0, le=1)
    color: float = Field(0.8, ge=0, le=1)
    hue: float = Field(0.2, ge=0, le=0.5)
    gray: float = Field(0.2, ge=0, le=1)
    recolored: float = Field(0.8, ge=0, le=1)
    blurs: tuple[float, float] = (1.0, 0.1)
    solarizes: float = Field(0.2, ge=0, le=1)
    noise: float = Field(0.0, ge=0)
    apart: bool = False
    all_stages: bool = False
    phases: int = Field(1, gt=0)
    moving: float = Field(0.0, ge=0, le=1)

    @classmethod
    def paper(cls) -> "Config":
        """R3D-50, 31.7 million parameters without its head; 16 frames of 224 px, every other one."""
        return cls()

    @classmethod
    def tiny(cls) -> "Config":
        """The sample videos: views of 3 frames of 32 px, never mirrored, since left and right differ there.

        Their camera stands still and every clip has a ground of its own, by which alone it could be told, as by its
        color: many views lack the one or the other, so that copies are known by both and motion is learned too. A blur
        made for 224 px would leave no shapes.
        """
        return cls(
            network=Network(
                widths=(16, 32, 64, 128), blocks=(1, 1, 1, 1), time_kernels=(1, 3, 3, 3), expansion=1, stem=(3, 5),
                stem_stride=2, pooled=False,
            ),
            side_px=32, frames=3, stride=3, head=(256,), dim=64, least_area=0.3, widest=1.33, flips=0.0, color=0.4,
            hue=0.1, gray=0.5, blurs=(0.0, 0.0), solarizes=0.0, noise=0.06, apart=True, moving=0.5, all_stages=True,
            phases=3,
        )  # fmt: skip

    def build(self) -> "CVRL":
        """The untrained encoder."""
        return CVRL(self)


class CVRL(VideoEncoder):
    """Video to features [B, dim] before the head."""

    joins_samples = True
    learns: ClassVar[Mapping[str, int | float]] = {"steps": 1500, "batch": 64}

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config: Config = config
        self.network = config.network.build(6 if config.apart else 3)
        self.dim = 2 * sum(self.network.stage_dims) if config.all_stages else self.network.dim
        widths, layers = [self.dim, *config.head], []
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(before, after), BatchNorm(after), nn.ReLU()]
        self.head = nn.Sequential(*layers, nn.Linear(widths[-1], config.dim))

    def embed(self, video: Video) -> Tensor:
        """Features [B, dim] of the whole clip, its frames as far apart as those of a view."""
        video, stride = resized(video, self.config.side_px), self.config.stride
        firsts = range(min(self.config.phases, video.shape[2]))
        readings = [self._features(self._read(video[:, :, first::stride])) for first in firsts]
        return torch.stack(readings).mean(0)

    def players(self) -> Mapping[str, Player]:
        """Network and head together."""
        return {"encoder": Player(dict(self.named_parameters()))}

    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        """InfoNCE of two views."""
        first, second = self._seen(batch, chance)
        yield "encoder", info_nce(first, second, temperature=self.config.temperature).mean()

    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        """How far two views are apart, one minus their cosine; it is of a clip alone, so it sees no negatives."""
        first, second = self._seen(batch, chance)
        return {"loss": 1 - F.cosine_similarity(first.float(), second.float(), dim=1)}

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        """Two views and their gradient; text is not read."""
        del shape, text_tokens
        config, side = self.config, self.config.side_px
        head = sum((product(layer, 1) for layer in self.head if isinstance(layer, nn.Linear)), Flops())
        total = (self.network.flops((config.frames, side, side)) + head) * 2
        return Work(total.step, 2 * config.frames * side**2)

    def _seen(self, batch: Batch, chance: Chance) -> tuple[Tensor, Tensor]:
        """What is compared, of each view [B, dim]."""
        config = self.config
        draws = chance.uniform("starts", batch.index, (3,))
        views = []
        for number, start in enumerate(starts(batch.video.shape[2], config.frames, config.stride, draws)):
            part = resized(_taken(batch.video, start, config.frames, config.stride), config.side_px)
            noise = chance.normal(f"noise {number}", batch.index, tuple(part.shape[1:])) if config.noise else None
            views.append(self._view(part, chance.uniform(f"view {number}", batch.index, (17,)), number, noise))
        # Both through the network at once: batch norm sees them together.
        first, second = self.head(self._features(torch.cat(views))).chunk(2)
        return first, second

    def _features(self, seen: Float[Tensor, "batch channels frames height width"]) -> Float[Tensor, "batch dim"]:
        stages = self.network.stages(seen)
        features = [maps.mean((2, 3, 4)) for maps in (stages if self.config.all_stages else stages[-1:])]
        if self.config.all_stages:
            features += [maps.amax((3, 4)).mean(2) for maps in stages]
        return torch.cat(features, dim=1)

    def _view(self, video: Video, draws: Tensor, number: int, noise: Tensor | None) -> Video:
        config = self.config
        video = cropped(
            video, draws[:, :5], least_area=config.least_area, widest=config.widest, flips=config.flips
        )  # fmt: skip
        colored = recolored(video, draws[:, 5:10], strength=config.color, hue=config.hue)
        video = torch.where((draws[:, 10] < config.recolored).view(-1, 1, 1, 1, 1), colored, video)
        lost = recolored(video, torch.full_like(draws[:, :5], 0.5), strength=0.0, gray=1.0)
        video = torch.where((draws[:, 11] < config.gray).view(-1, 1, 1, 1, 1), lost, video)
        video = blurred(video, draws[:, 12:14], share=config.blurs[number])
        video = solarized(video, draws[:, 16:17], share=config.solarizes) if number == 1 else video
        if noise is not None:
            video = video + noise * (config.noise * draws[:, 15]).view(-1, 1, 1, 1, 1)
        return self._read(video, draws[:, 14] < config.moving)

    def _read(self, video: Video, moving: Tensor | None = None) -> Tensor:
        """What the network is given of video, some of it without its mean over time."""
        still = video.mean(2, keepdim=True)
        moved = video - still
        if moving is not None:
            still = still.masked_fill(moving.view(-1, 1, 1, 1, 1), 0.0)
        return torch.cat([moved, still.expand_as(moved)], dim=1) if self.config.apart else moved + still


def distance(uniform: Tensor, offsets: float) -> Tensor:
    """Distance of two starts among so many offsets, from uniform draws in [0, 1).

    Its density falls linearly to zero, 2 / M (1 - d / M) (section 3.2 with power 1): the distribution function
    2 d / M - (d / M)^2 is inverted.
    """
    return offsets * (1 - (1 - uniform).sqrt())


def starts(length: int, frames: int, stride: int, draws: Float[Tensor, "batch 3"]) -> tuple[Index, Index]:
    """First frames of two views of a clip of `length` frames, in either order; 0 in a clip shorter than a view."""
    offsets = max(1, length - (frames - 1) * stride)
    apart = distance(draws[:, 0], offsets).floor()
    early = (draws[:, 1] * (offsets - apart)).floor()
    late, swapped = early + apart, draws[:, 2] < 0.5
    return torch.where(swapped, late, early).long(), torch.where(swapped, early, late).long()


def _taken(video: Video, start: Tensor, frames: int, stride: int) -> Video:
    """Some frames of each clip from its start on; a clip that is too short begins again."""
    places = (start[:, None] + stride * torch.arange(frames, device=start.device)) % video.shape[2]
    rows = torch.arange(len(video), device=start.device)[:, None]
    return video.transpose(1, 2)[rows, places].transpose(1, 2)
