"""One video drawn from a version as the registry has it, before anybody may promote it."""

import tempfile
from pathlib import Path

import torch
from torch import nn

from vidgen_core.applications.generator import Generator
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Codec
from vidgen_core.registry.models import SHAPE_TAG, Version, fetch
from vidgen_core.registry.tracking import client
from vidgen_core.shapes import Latents, Video

__all__ = ["drawn"]

_PROMPT = "a video"


def drawn(uri: str, version: Version) -> str:
    """Fetch a version anew, open it and draw one video; "", or why that cannot be, in a sentence."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            generator = Generator.load(fetch(uri, f"{version.name}/{version.version}", Path(folder), blocked_too=True))
            watched = _Watched(generator.codec)
            # What is no number has no color either: it must be seen before it is made one.
            generator.codec = watched  # type: ignore[assignment]
            (video,) = generator.videos([_PROMPT])
        except VidgenError as error:
            return str(error)
    if not watched.finite:
        return "Its values are not all finite."
    wanted = client(uri).get_model_version(version.name, str(version.version)).tags.get(SHAPE_TAG, "")
    found = "x".join(map(str, video.shape[:3]))
    return f"Its video is {found} (frames x height x width), and {wanted} is wanted." if found != wanted else ""


class _Watched(nn.Module):
    """A codec that notes whether what goes in and comes out is finite."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self._codec, self.finite = codec, True

    def decode(self, latents: Latents) -> Video:
        video = self._codec.decode(latents)
        self.finite &= bool(torch.isfinite(latents).all() and torch.isfinite(video).all())
        return video
