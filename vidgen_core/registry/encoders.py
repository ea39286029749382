"""Video encoders in the registry: opening one by name, and making the better one the champion."""

import json
import time
from pathlib import Path

from vidgen_core.encoders._open import open_encoder_folder
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import VideoEncoder
from vidgen_core.registry import models
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


def promote_if_better(uri: str, version: Version, figure: str, value: float, *, data: str, lock_file: Path) -> str:
    """Make a version the champion unless the champion has a better figure; returns the alias that it got.

    Figures compare on the same data alone: a champion that was measured on other clips is replaced.

    Args:
        uri: The registry.
        version: The candidate.
        figure: What was measured, the higher the better.
        value: What it came to.
        data: Digest of the clips.
        lock_file: Promotions of one home happen one after the other.

    """
    store, own = client(uri), {"figure": figure, "value": value, "data": data}
    with models.locked(lock_file):
        store.set_model_version_tag(version.name, str(version.version), _MEASURED, json.dumps(own))
        champion = models.by_alias(store, version.name, models.CHAMPION)
        before = None if champion is None else int(champion.version)
        theirs = {} if champion is None else json.loads(champion.tags.get(_MEASURED, "{}"))
        comparable = theirs.get("data") == data and theirs.get("figure") == figure
        if before == version.version:
            return models.CHAMPION
        promoted = not comparable or value >= theirs["value"]
        entry = {"time": time.time(), "from": before, "to": version.version, "promoted": promoted, **own}
        store.set_registered_model_tag(version.name, f"vidgen.journal.{time.time_ns()}", json.dumps(entry))
        if promoted and before is not None:
            store.set_registered_model_alias(version.name, models.PREVIOUS, str(before))
        alias = models.CHAMPION if promoted else models.CHALLENGER
        store.set_registered_model_alias(version.name, alias, str(version.version))
        return alias
