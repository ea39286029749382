"""Opening a text encoder by its name and configuration."""

from typing import Any

from vidgen_core import discovery
from vidgen_core.interfaces import TextEncoder

__all__ = ["open_encoder"]


def open_encoder(name: str, config: dict[str, Any]) -> TextEncoder:
    """The encoder of file `name` with a configuration as JSON."""
    return discovery.load("vidgen_core.encoders", name).Config.model_validate(config).build()
