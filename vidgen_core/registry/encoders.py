"""Video encoders in the registry: opening one by name, and making the better one the champion."""

import json
import time
from collections.abc import Callable, Mapping
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

# Figures of an encoder by name, on the candidate's clips.
Measure = Callable[[VideoEncoder], Mapping[str, float]]


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


def promote_if_better(  # noqa: PLR0913 - what, by which figure, and how the champion gets the same
    uri: str, version: Version, figure: str, value: float, *, data: str, who: str, cache_dir: Path, measure: Measure
) -> str:
    """Make a version the champion unless the champion has a better figure; returns the alias that it got.

    Figures compare on the same data alone: a champion that was measured on other clips is measured again on these, and
    replaced only where that cannot be done.

    Args:
        uri: The registry.
        version: The candidate.
        figure: What was measured, the higher the better.
        value: What it came to.
        data: Digest of the clips.
        who: The account that asks.
        cache_dir: Where versions are kept once they are fetched.
        measure: Measures an encoder as the candidate was measured.

    """

    def again(named: str) -> Mapping[str, float]:
        return measure(open_video_encoder(named, uri=uri, cache_dir=cache_dir))

    store, own = client(uri), {"figure": figure, "value": value, "data": data}
    store.set_model_version_tag(version.name, str(version.version), _MEASURED, json.dumps(own))
    while True:
        state = settle(store, version.name)
        blocked = state.blocked.get(version.version, "")
        if version.version == state.champion and not blocked:
            return CHAMPION
        rival = None if state.rival is None else models.version_of(uri, f"{version.name}/{state.rival}")
        # A blocked one is never promoted: its entry would be void, and we would write another one for ever.
        promoted, why = (False, f"It is blocked: {blocked}") if blocked else _compared(own, rival, again)
        entry = Entry(
            action="promote" if promoted else "refuse", to=version.version, seen=state.champion, who=who,
            time=time.time(), reasons=(why,), evidence={"model": version.model, "data": data},
        )  # fmt: skip
        if append(store, version.name, entry) in settle(store, version.name).counted:
            return CHAMPION if promoted else CHALLENGER


def _compared(
    own: dict[str, Any], champion: Version | None, again: Callable[[str], Mapping[str, float]]
) -> tuple[bool, str]:
    """Whether it is better, and the sentence about it."""
    figure, told = own["figure"], f"Its {own['figure']} is {own['value']:.3f}"
    if champion is None:
        return True, f"{told}, and there is no champion yet."
    kept, how = json.loads(champion.tags.get(_MEASURED, "{}")), ""
    if (kept.get("data"), kept.get("figure")) == (own["data"], figure):
        theirs = kept["value"]
    else:
        try:
            figures = again(f"{champion.name}/{champion.version}")
        except VidgenError as mistake:
            return True, f"{told}, and the champion cannot be measured on the same clips: {mistake}"
        if figure not in figures:
            return True, f"{told}, and the champion has none on the same clips."
        theirs, how = figures[figure], ", measured again on the same clips, of which it may have learned from some"
    return own["value"] >= theirs, f"{told}, the champion's {theirs:.3f}{how}."
