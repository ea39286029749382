"""Opening a frozen codec from its folder of weights."""

from pathlib import Path

from vidgen_core import discovery, weights
from vidgen_core.interfaces import Codec

__all__ = ["open_codec"]


def open_codec(folder: Path) -> Codec:
    """The codec that a folder of `weights.save` holds; its card names the file and the configuration.

    Raises:
        VidgenError: The folder holds no weights, or those of another codec.

    """
    state, card = weights.load(folder)
    config = discovery.load("vidgen_core.codecs", card["name"]).Config.model_validate(card["config"])
    codec: Codec = config.build()
    weights.put(state, codec, folder)
    return codec.eval().requires_grad_(False)
