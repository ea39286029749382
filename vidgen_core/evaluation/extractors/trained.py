"""A video encoder of our own as the space of metrics."""

import numpy as np

from vidgen_core.evaluation.extractors._contract import Clips, Extractor, FeatureProtocol, Features
from vidgen_core.interfaces import VideoEncoder

__all__ = ["TrainedEncoder"]


class TrainedEncoder(Extractor):
    """Features of a trained encoder.

    Args:
        name: As metrics' names have it.
        encoder: The encoder, which sizes clips by itself.

    """

    def __init__(self, name: str, encoder: VideoEncoder) -> None:
        self._name, self._encoder = name, encoder

    @property
    def protocol(self) -> FeatureProtocol:
        """See `Extractor`."""
        return FeatureProtocol(
            encoder=self._name.replace("_", "-"), weights=self._encoder.digest, resize="the encoder's own",
            values="the encoder's own", frames="the encoder's own", dimensions=self._encoder.dim, whitened=True,
        )  # fmt: skip

    def features(self, clips: Clips) -> Features:
        """See `Extractor`."""
        return self._encoder.features(clips).astype(np.float64)
