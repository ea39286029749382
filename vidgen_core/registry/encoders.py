"""Video encoders in the registry: opening one by name, and making the better one the champion."""

import json
import time
from pathlib import Path
from typing import Any

from vidgen_core.encoders._open import open_encoder_folder
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import VideoEncoder
from vidgen_core.registry import models
from vidgen_core.registry.journal import CHALLENGER, CHAMPION, Entry, append, settle
from vidgen_core.registry.models import Version
from vidgen_core.registry.tracking import client

__all__ = ["open_video_encoder", "promote_if_better"]

_MEASURED = "vidgen.measured"


def open_video_encoder(named: str | Path, *, uri: str = "", cache_dir: Path | None = None) -> VideoEncoder:
    """A trained video encoder, frozen.

    Args:
        named: A folder of its weights, or `name@alias` or `name/version` in the registry.
        uri: The registry.
        cache_dir: Where versions are kept once they are fetched.

    Raises:
        VidgenError: There is no such folder or version, or it holds no video encoder.

    """
    folder = Path(named)
    if not folder.is_dir():
        if not uri or cache_dir is None:
            raise VidgenError(
                "There is no folder of an encoder's weights", got=str(named),
                move="Give the folder that was written, or name@alias where there is a registry",
            )  # fmt: skip
        folder = models.fetch(uri, str(named), cache_dir)
    return open_encoder_folder(folder)


def promote_if_better(uri: str, version: Version, figure: str, value: float, *, data: str, who: str) -> str:
    """Make a version the champion unless the champion has a better figure; returns the alias that it got.

    Figures compare on the same data alone: a champion that was measured on other clips is replaced.

    Args:
        uri: The registry.
        version: The candidate.
        figure: What was measured, the higher the better.
        value: What it came to.
        data: Digest of the clips.
        who: The account that asks.

    """
    store, own = client(uri), {"figure": figure, "value": value, "data": data}
    store.set_model_version_tag(version.name, str(version.version), _MEASURED, json.dumps(own))
    while True:
        state = settle(store, version.name)
        if version.version == state.champion:
            return CHAMPION
        promoted, why = _compared(store, version.name, state.champion, own)
        entry = Entry(
            action="promote" if promoted else "refuse", to=version.version, seen=state.champion, who=who,
            time=time.time(), reasons=(why,), evidence={"model": version.model, "data": data},
        )  # fmt: skip
        if append(store, version.name, entry) in settle(store, version.name).counted:
            return CHAMPION if promoted else CHALLENGER


def _compared(store: Any, name: str, champion: int | None, own: dict[str, Any]) -> tuple[bool, str]:
    """Whether it is better, and the sentence about it."""
    told = f"Its {own['figure']} is {own['value']:.3f}"
    if champion is None:
        return True, f"{told}, and there is no champion yet."
    theirs = json.loads(store.get_model_version(name, str(champion)).tags.get(_MEASURED, "{}"))
    if (theirs.get("data"), theirs.get("figure")) != (own["data"], own["figure"]):
        return True, f"{told}, and the champion was measured on other clips."
    return own["value"] >= theirs["value"], f"{told}, the champion's {theirs['value']:.3f}."
