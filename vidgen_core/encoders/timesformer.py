"""A vision transformer for clips as a classifier and encoder. Bertasius et al. 2021 (arXiv:2102.05095).

The network is `networks/timesformer.py`; features are the class token after all blocks.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from vidgen_core.encoders._classifier import Augmentation, Classifier
from vidgen_core.encoders._views import resized, times
from vidgen_core.interfaces import Frozen, Work
from vidgen_core.networks.timesformer import Config as Network
from vidgen_core.networks.timesformer import TimeSformer
from vidgen_core.shapes import Video

__all__ = ["Config", "TimeSformerEncoder"]


class Config(Frozen):
    """A TimeSformer.

    Args:
        network: Its sizes, and how it attends: "divided", "joint" or "space".
        augmentation: How clips are changed in training.

    """

    network: Network = Network()
    augmentation: Augmentation = Augmentation()

    @classmethod
    def paper(cls) -> "Config":
        """8 frames of 224 px, 400 classes, divided attention: 121,566,352 parameters."""
        return cls()

    @classmethod
    def tiny(cls) -> "Config":
        """Shape and direction in the sample videos: 12 classes, the first and the last frame of 32 px.

        A shape is hardly larger than a patch, so convolutions read its outline first; colors tell nothing.
        """
        return cls(
            network=Network(
                classes=12, attention="joint", frames=2, side_px=32, patch_px=8, dim=64, depth=3, heads=4,
                drop_path=0.0, places="sines", stem=(24, 48, 96),
            ),
            augmentation=Augmentation(hue=0.5),
        )  # fmt: skip

    def build(self) -> "TimeSformerEncoder":
        """The untrained encoder.

        Raises:
            VidgenError: The side is no multiple of the patch's, or the patch's not one of what the stem leaves.

        """
        return TimeSformerEncoder(self)


class TimeSformerEncoder(Classifier):
    """Video to the class token [B, dim]."""

    # Batch norm in a stem.
    joins_samples = True
    learns: ClassVar[Mapping[str, int | float]] = {"steps": 2000, "batch": 32}
    network: TimeSformer

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config: Config = config
        self.network = config.network.build()
        self.augmentation, self.classes, self.dim = config.augmentation, config.network.classes, config.network.dim

    def embed(self, video: Video) -> Tensor:
        """Features [B, dim]."""
        return self.network.features(self.prepared(video))

    def prepared(self, video: Video) -> Video:
        """As many frames as the network has, spread over the clip, at its size."""
        chosen = video[:, :, times(video.shape[2], self.config.network.frames)]
        return resized(chosen, self.config.network.side_px)

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        """One pass and its gradient; text is not read."""
        del shape, text_tokens
        network = self.config.network
        places = (network.side_px // network.patch_px) ** 2
        return Work(self.network.flops().step, 1 + network.frames * places)
