"""Whether stored latents and embeddings are what their codec and encoder give: a share of them, made again.

A latent that is stale, was written by other weights or has rotted on the disk trains a model without a complaint;
nothing else compares it with its clip.
"""

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data_prep.latents import embeddings_table, latents_table
from data_prep.tables import Tables
from vidgen_core.clip import decode_clips
from vidgen_core.codecs._open import open_codec
from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen
from vidgen_core.interfaces import TextEncoder, to_unit
from vidgen_core.training.columns import BytesColumn, TensorColumn, read_rows, stored_in

__all__ = ["Mismatch", "Verified", "verify_embeddings", "verify_latents"]


class Mismatch(Frozen):
    """A row that is not what it should be.

    Args:
        key: The clip's id, or the caption.
        file: Where it is stored; "" if it is not.
        why: In words.

    """

    key: str
    file: str
    why: str


class Verified(Frozen):
    """What a comparison came to.

    Args:
        table: Whose rows.
        of, checked: How many rows there should be, and how many were made again.
        tolerance: Largest |stored - made| / (1 + |made|) that is allowed.
        worst: Largest that was found among what can be compared.
        mismatches: What is beyond it, missing or unreadable.

    """

    table: str
    of: int
    checked: int
    tolerance: float
    worst: float
    mismatches: tuple[Mismatch, ...]


def verify_latents(
    tables: Tables, codec_dir: Path, *, share: float, seed: int = 0, tolerance: float = 0.01
) -> Verified:
    """Code a random share of the clips again and compare.

    Raises:
        VidgenError: There are no clips or no latents of this codec, or a file of clips is damaged.

    """
    codec, name = open_codec(codec_dir), latents_table(codec_dir)
    clips = {
        clip_id: (file, row)
        for file in tables.files("clips")
        for row, clip_id in enumerate(read_rows(file, ["clip_id"])["clip_id"].to_pylist())
    }
    media = {file: BytesColumn([file], "media") for file in tables.files("clips")}

    def made(key: str) -> np.ndarray:
        file, row = clips[key]
        with torch.no_grad():
            return codec.encode(to_unit(torch.from_numpy(decode_clips([media[file].value(row)]))))[0].numpy()

    return _compare(tables, name, ("clip_id", "latent"), sorted(clips), made, _Asked(share, seed, tolerance))


def verify_embeddings(
    tables: Tables, encoder: TextEncoder, *, share: float, seed: int = 0, tolerance: float = 0.01
) -> Verified:
    """Embed a random share of the captions again and compare.

    Raises:
        VidgenError: There are captions, but no embeddings of this encoder.

    """
    captions = sorted(set(tables.read("captions", ["caption"])["caption"].to_pylist()) - {None, ""})

    def made(key: str) -> np.ndarray:
        return encoder.encode([key]).tokens[0].numpy()

    asked = _Asked(share, seed, tolerance)
    return _compare(tables, embeddings_table(encoder), ("caption", "tokens"), captions, made, asked)


class _Asked(NamedTuple):
    share: float
    seed: int
    tolerance: float


def _compare(
    tables: Tables, name: str, columns: tuple[str, str], keys: Sequence[str], made: Callable[[str], np.ndarray],
    asked: _Asked,
) -> Verified:  # fmt: skip
    if keys and not tables.exists(name):
        raise VidgenError(f"There is no table {name} to compare with", move="Give vidgen latents first")
    count = min(len(keys), math.ceil(len(keys) * asked.share))
    chosen = random.Random(asked.seed).sample(list(keys), count)
    places, wrong = _places(tables, name, columns[0])
    worst = 0.0
    for key in chosen:
        file, row = places.get(key, (None, 0))
        if file is None:
            wrong.append(Mismatch(key=key, file="", why="it is not stored"))
            continue
        difference = _difference(file, columns[1], row, made(key))
        if not difference <= asked.tolerance:
            why = (
                f"it differs by {difference:.3g}"
                if math.isfinite(difference)
                else "it is of another shape or not finite"
            )
            wrong.append(Mismatch(key=key, file=str(file), why=why))
        worst = max(worst, difference if math.isfinite(difference) else 0.0)
    return Verified(table=name, of=len(keys), checked=count, tolerance=asked.tolerance, worst=worst,
                    mismatches=tuple(wrong))  # fmt: skip


def _difference(file: Path, column: str, row: int, made: np.ndarray) -> float:
    """Largest |stored - made| / (1 + |made|); infinite where the two cannot be compared."""
    stored = TensorColumn([file], column, stored_in(file)).gather([row])[0].astype(np.float64)
    if stored.shape != made.shape or not np.isfinite(stored).all():
        return math.inf
    return float((np.abs(stored - made) / (1 + np.abs(made))).max())


def _places(tables: Tables, name: str, column: str) -> tuple[dict[str, tuple[Path, int]], list[Mismatch]]:
    """Key -> the file and row that it stands in; and the files that cannot be read."""
    places, wrong = {}, []
    for file in tables.files(name):
        try:
            keys = read_rows(file, [column])[column].to_pylist()
        except VidgenError as error:
            wrong.append(Mismatch(key="", file=str(file), why=str(error)))
            continue
        places.update({key: (file, row) for row, key in enumerate(keys)})
    return places, wrong
