"""Opening an encoder: of text by its name and configuration, of video from its folder of weights."""

from pathlib import Path
from typing import Any

from vidgen_core import discovery, weights
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import TextEncoder, VideoEncoder

__all__ = ["open_encoder", "open_encoder_folder"]


def open_encoder(name: str, config: dict[str, Any]) -> TextEncoder:
    """The text encoder of file `name` with a configuration as JSON."""
    return discovery.load("vidgen_core.encoders", name).Config.model_validate(config).build()


def open_encoder_folder(folder: Path) -> VideoEncoder:
    """The video encoder that a folder of `weights.save` holds, frozen; its card names the file and the configuration.

    Raises:
        VidgenError: The folder holds no weights, or not those of a video encoder.

    """
    state, card = weights.load(folder)
    if card.get("kind") != "encoders":
        raise VidgenError(
            f"{folder} holds no video encoder", got=card.get("kind", "another card"),
            move="Name a folder that vidgen encoder train has written",
        )  # fmt: skip
    # Weights of others that it began with are not needed again: its own are here.
    config = {key: value for key, value in card["config"].items() if key != "weights"}
    encoder: VideoEncoder = discovery.load("vidgen_core.encoders", card["name"]).Config.model_validate(config).build()
    encoder.load_state_dict(state)
    return encoder.eval().requires_grad_(False)
