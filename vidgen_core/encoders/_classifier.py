"""Encoders that learn to name the class of a clip, and whose features are what their last layer reads."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vidgen_core.chance import Chance
from vidgen_core.encoders._views import cropped, recolored
from vidgen_core.frozen import Frozen
from vidgen_core.interfaces import Batch, Player, VideoEncoder

__all__ = ["Augmentation", "Classifies", "Classifier"]


class Augmentation(Frozen):
    """How a clip that is learned from is changed, the same way in all of its frames; never mirrored.

    Args:
        least_area: Share of the picture that a random crop keeps at least; 1 takes all of it.
        widest: Largest width over height of a crop.
        color: Brightness, contrast and saturation are multiplied by 1 - color to 1 + color.
        hue: Largest turn of the hue, of a full one.

    """

    least_area: float = Field(0.75, gt=0, le=1)
    widest: float = Field(1.15, ge=1)
    color: float = Field(0.3, ge=0, le=1)
    hue: float = Field(0.0, ge=0, le=0.5)


class Classifies(Protocol):
    """A network with a classifier at its end."""

    def __call__(self, video: Tensor) -> Tensor:
        """Logits [B, classes] of video in [-1, 1]."""
        ...

    def features(self, video: Tensor) -> Tensor:
        """What the classifier reads, [B, dim]."""
        ...


class Classifier(VideoEncoder):
    """A network of logits, trained by cross-entropy on the column "label", a class's number."""

    labels = ("label",)
    network: nn.Module
    augmentation: Augmentation
    classes: int

    @abstractmethod
    def prepared(self, video: Tensor) -> Tensor:
        """Video as the network reads it."""

    def logits(self, video: Tensor) -> Tensor:
        """Logits [B, classes] of video in [-1, 1]."""
        return self.network(self.prepared(video))

    def players(self) -> Mapping[str, Player]:
        """All of it together; Muon may take the matrices within a transformer's blocks."""
        weights = dict(self.named_parameters())
        hidden = frozenset(name for name, value in weights.items() if value.ndim == 2 and ".blocks." in name)
        return {"encoder": Player(weights, hidden=hidden)}

    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        """Cross-entropy of a changed view of each clip."""
        logits = self.network(self._view(batch, chance))
        yield "encoder", F.cross_entropy(logits.float(), _labels(batch, self.classes))

    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        """Cross-entropy of the clip as it is, and whether the likeliest class is the right one."""
        del chance
        logits, labels = self.logits(batch.video).float(), _labels(batch, self.classes)
        right = (logits.argmax(1) == labels).float()
        return {"loss": F.cross_entropy(logits, labels, reduction="none"), "accuracy": right}

    def _view(self, batch: Batch, chance: Chance) -> Tensor:
        how, draws = self.augmentation, chance.uniform("view", batch.index, (10,))
        video = self.prepared(batch.video)
        video = cropped(video, draws[:, :5], least_area=how.least_area, widest=how.widest)
        return recolored(video, draws[:, 5:], strength=how.color, hue=how.hue)


def _labels(batch: Batch, classes: int) -> Tensor:
    return batch.scalars["label"].to(torch.int64).clamp(0, classes - 1)
