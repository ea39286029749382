"""Inflated Inception as a classifier of clips and as the network of feature distances.

Carreira and Zisserman 2017 (arXiv:1705.07750); Unterthiner et al. 2018, "FVD" (arXiv:1812.01717), section 3, takes its
logits on Kinetics-400. The network is `networks/i3d.py`; public weights, in PyTorch's naming or converted from
TensorFlow's, are opened from a file.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator
from torch import Tensor

from vidgen_core.encoders._classifier import Augmentation, Classifier
from vidgen_core.encoders._states import absolute, read_state
from vidgen_core.encoders._views import resized
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Frozen, Work
from vidgen_core.networks.i3d import I3D, renamed
from vidgen_core.networks.i3d import Config as Network
from vidgen_core.shapes import Video

__all__ = ["Config", "I3DEncoder"]


class Config(Frozen):
    """An Inflated Inception.

    Args:
        network: Its sizes.
        side_px: Frames are resized to this square.
        read: Whether features are what the classifier reads, averaged over time, or its logits.
        augmentation: How clips are changed in training.
        weights: File of public weights; an encoder that was saved has none.

    """

    network: Network = Network()
    side_px: int = Field(224, gt=0)
    read: Literal["pool", "logits"] = "pool"
    augmentation: Augmentation = Augmentation()
    weights: str = ""

    @field_validator("weights")
    @classmethod
    def _absolute(cls, path: str) -> str:
        return absolute(path)

    @classmethod
    def paper(cls) -> "Config":
        """RGB, 400 classes: 12,697,264 parameters; clips of at least 9 frames."""
        return cls()

    @classmethod
    def tiny(cls) -> "Config":
        """Shape and direction in the sample videos: 12 classes, an eighth of the width; colors tell nothing of them."""
        return cls(
            network=Network(
                classes=12, width=0.125, stem_kernel=(3, 5), stem_stride=(2, 1), last_pool=None, dropout=0.0
            ),
            side_px=32, augmentation=Augmentation(hue=0.5),
        )  # fmt: skip

    def build(self) -> "I3DEncoder":
        """The encoder, with its weights where there is a file.

        Raises:
            VidgenError: The file does not hold the weights of such a network.

        """
        encoder = I3DEncoder(self.model_copy(update={"weights": ""}))
        if self.weights:
            try:
                encoder.network.load_state_dict(renamed(read_state(self.weights)))
            except RuntimeError as error:
                raise VidgenError(
                    f"The weights in {self.weights} are not those of this I3D",
                    got=str(error).splitlines()[1].strip()[:300],
                    allowed="a state dict in PyTorch's naming (Mixed_3b.b0) or TensorFlow's (mixed_3b.branch_0)",
                    move="Give the file, or set network.classes and network.channels to those of the weights",
                ) from error
        return encoder


class I3DEncoder(Classifier):
    """Video to features [B, 1024 * width], or logits [B, classes]."""

    # Batch norm.
    joins_samples = True
    learns: ClassVar[Mapping[str, int | float]] = {"steps": 2000, "learning_rate": 3e-3}
    network: I3D

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config: Config = config
        self.network = config.network.build()
        self.augmentation, self.classes = config.augmentation, config.network.classes
        self.dim = config.network.classes if config.read == "logits" else self.network.dim

    def embed(self, video: Video) -> Tensor:
        """Features [B, dim]."""
        seen = self.prepared(video)
        return self.network(seen) if self.config.read == "logits" else self.network.features(seen)

    def prepared(self, video: Video) -> Video:
        """Frames at the network's size."""
        return resized(video, self.config.side_px)

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        """One pass and its gradient; text is not read."""
        del text_tokens
        side = self.config.side_px
        return Work(self.network.flops((shape[1], side, side)).step, shape[1] * side**2)
