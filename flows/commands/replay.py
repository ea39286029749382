"""`vidgen replay`: samples again, from their records."""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from flows.home import Home
from vidgen_core.applications.generator import Generator, digest
from vidgen_core.applications.movie import movie
from vidgen_core.applications.records import SampleRecord, changed_pixels, replay
from vidgen_core.errors import VidgenError
from vidgen_core.outputs import check_out
from vidgen_core.registry.models import fetch

__all__ = ["replay_samples"]


def replay_samples(home: Home, model: str, file: Path, numbers: Sequence[int], out: Path) -> str:
    """Draw samples of a file of records again, side by side into an mp4; what came of it, in a sentence.

    Args:
        home: Whose registry.
        model: `name@alias` or `name/version`, the one that drew them.
        file: Records as JSON, beside the page.
        numbers: Which of them, from 0.
        out: An .mp4 file.

    Raises:
        VidgenError: The file holds no such records, or they are of another model.

    """
    check_out(out, (".mp4",), "A video")
    records = _read(file)
    beyond = [number for number in numbers if not 0 <= number < len(records)]
    if beyond or not numbers:
        raise VidgenError("There is no such sample", got=beyond or "none", allowed=f"0 to {len(records) - 1}")
    chosen = [records[number] for number in numbers]
    folder = fetch(home.mlflow_uri, model, home.cache_dir)
    generator = Generator.load(folder)
    clips = replay(generator, digest(folder), chosen)
    out.write_bytes(movie(clips, generator.card.frame_rate))
    changed = [number for number, clip, one in zip(numbers, clips, chosen, strict=True) if changed_pixels(clip, one)]
    if not changed:
        return f"{out}: to the bit as they were."
    return f"{out}: rounded otherwise in some pixels of {', '.join(map(str, changed))}."


def _read(file: Path) -> list[SampleRecord]:
    try:
        return [SampleRecord.model_validate(row) for row in json.loads(file.read_text())]
    except (OSError, json.JSONDecodeError, ValidationError, TypeError) as error:
        raise VidgenError(
            f"This file holds no records of samples: {str(error).splitlines()[0][:200]}",
            got=str(file),
            move="Give the .samples.json file beside a page of the home's reports",
        ) from error
