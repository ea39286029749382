"""Clips to latents, captions to embeddings: what a family reads while it trains.

A latent is a function of its clip and the codec's weights, whatever else is coded with it: clips are coded one at a
time, so that a run that was killed and one that was not, or one with a source more, agree on every byte.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from data_prep.coded import IDENTITY, read, rows_of, stored_rows
from data_prep.needs import needs
from data_prep.pace import Pace
from data_prep.run import Failure, Runner
from data_prep.tables import Part, Tables
from vidgen_core import digests, weights
from vidgen_core.clip import decode_clips
from vidgen_core.codecs._open import open_codec
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Codec, TextEncoder, to_unit
from vidgen_core.training.columns import WRITING, BytesColumn, Stored, damaged, to_column, to_table

__all__ = ["embed_captions", "embeddings_table", "encode_latents", "latents_table"]

_log = logging.getLogger(__name__)
# Raised when the same codec would give other latents than before.
_VERSION = 1

# progress(done, total)
Progress = Callable[[int, int], None]


class _Clip(NamedTuple):
    identity: tuple[str, ...]
    file: Path
    row: int
    shape: tuple[int, int, int]


class _Unit(NamedTuple):
    key: str
    tables: Tables
    name: str
    codec_dir: Path
    clips: tuple[_Clip, ...]


def latents_table(codec_dir: Path) -> str:
    """Name of the table of a codec's latents."""
    return f"latents/{weights.digest(codec_dir)[:16]}"


def embeddings_table(encoder: TextEncoder) -> str:
    """Name of the table of an encoder's embedded captions."""
    return f"embeddings/{encoder.digest}"


def encode_latents(
    tables: Tables, codec_dir: Path, runner: Runner, *, unit_clips: int = 128, progress: Progress | None = None
) -> str:
    """Code every clip that has no latent yet; drop latents of clips that are gone or changed, and damaged files.

    Args:
        tables: The data's tables; reads `clips`, writes `latents/<first 16 digits of the codec's digest>`.
        codec_dir: The frozen codec.
        runner: Where tasks run.
        unit_clips: Clips a task, and a file.
        progress: Told the clips done and all clips to do.

    Returns:
        The name of the table.

    Raises:
        VidgenError: There is no clip, the codec does not fit them, or a task died.

    """
    name = latents_table(codec_dir)
    clips = _clips(tables)
    if not clips:
        raise VidgenError("There is no clip to code", move="Run vidgen prepare first; its funnel says what was kept")
    tables.clear_unfinished(name)
    wanted = {clip.identity for clip in clips}
    kept = _keep_wanted(tables, name, IDENTITY, wanted)
    parts = _left_over(tables, name, wanted, kept)
    todo = [clip for clip in clips if clip.identity not in kept]
    units = [
        _unit(tables, name, codec_dir, tuple(alike[start : start + unit_clips]))
        for alike in _by_shape(todo)
        for start in range(0, len(alike), unit_clips)
    ]
    done, pace = 0, Pace()
    for unit, result in runner.map(_encode, units):
        if isinstance(result, Failure):
            raise VidgenError(
                f"Coding {len(unit.clips)} clips failed {result.attempts} times: {result.message}",
                got=result.reason,
                move="Give the same command again; it goes on from what was committed",
            )
        parts.append(result)
        done += len(unit.clips)
        if pace.due(len(parts)):
            with pace.committing():
                tables.commit(name, _LATENTS, parts)
            parts = []
        if progress is not None:
            progress(done, len(todo))
    tables.commit(name, _LATENTS, parts)
    return name


def embed_captions(tables: Tables, encoder: TextEncoder, *, unit_captions: int = 1024) -> str:
    """Embed every caption that is not embedded yet, and drop those that no clip has any more.

    Returns:
        The name of the table.

    """
    name = embeddings_table(encoder)
    said = set(tables.read("captions", ["caption"])["caption"].to_pylist()) - {None, ""}
    kept = _keep_wanted(tables, name, ["caption"], {(caption,) for caption in said})
    todo = sorted(said - {caption for (caption,) in kept})
    chunks = [todo[start : start + unit_captions] for start in range(0, len(todo), unit_captions)]
    parts = [_embed(tables, name, encoder, chunk) for chunk in chunks]
    tables.commit(name, _EMBEDDINGS, parts)
    return name


_LATENTS = pa.schema([*((name, pa.string()) for name in IDENTITY), ("latent", pa.binary())])
_EMBEDDINGS = pa.schema([("caption", pa.string()), ("tokens", pa.binary()), ("mask", pa.binary())])


def _clips(tables: Tables) -> list[_Clip]:
    clips = []
    for file in tables.listed("clips"):
        rows = read(tables, file, [*IDENTITY, "frames", "height", "width"])
        values = zip(*(column.to_pylist() for column in rows.columns), strict=True)
        clips += [_Clip(told[: len(IDENTITY)], file, row, told[len(IDENTITY) :]) for row, told in enumerate(values)]
    return clips


def _by_shape(clips: Sequence[_Clip]) -> list[list[_Clip]]:
    """Clips of one shape together: a file holds tensors of one shape."""
    alike: dict[tuple[int, ...], list[_Clip]] = {}
    for clip in clips:
        alike.setdefault(clip.shape, []).append(clip)
    return [alike[shape] for shape in sorted(alike)]


def _keep_wanted(
    tables: Tables, name: str, columns: Sequence[str], wanted: set[tuple[str, ...]]
) -> set[tuple[str, ...]]:
    """Drop rows that are not wanted any more and files that cannot be read; the rows that are left.

    What else is in a file is written anew, and not made anew.
    """
    stale: list[str] = []
    parts: list[Part] = []
    kept: set[tuple[str, ...]] = set()
    for file, rows in stored_rows(tables, name, columns).items():
        if rows is not None and wanted.issuperset(rows):
            kept.update(rows)
            continue
        stale.append(file.stem.removeprefix("part-"))
        rest = [row for row in rows or () if row in wanted]
        if rest and (part := _rest(tables, name, file, [row in wanted for row in rows or ()])) is not None:
            parts.append(part)
            kept.update(rest)
    if stale:
        tables.commit(name, None, parts, drop=stale)
    return kept


def _rest(tables: Tables, name: str, file: Path, wanted: Sequence[bool]) -> Part | None:
    """Some rows of a file as a unit of their own; None if they cannot be read."""
    try:
        with tables.opened(file) as opened:
            rows = opened.read().filter(pa.array(wanted))
    except (OSError, pa.ArrowException) as error:
        _log.warning("%s", damaged(file, str(error)))
        return None
    unit = digests.of_value([file.stem, list(wanted)], 32)
    return Part(unit, tables.write(name, unit, rows, **WRITING), len(rows))


def _left_over(tables: Tables, name: str, wanted: set[tuple[str, ...]], kept: set[tuple[str, ...]]) -> list[Part]:
    """Files outside of the table that help: a killed run wrote them, or they left it and are wanted again.

    Their rows are added to those kept.
    """
    parts, committed = [], set(tables.listed(name))
    for file in tables.stored(name):
        if file in committed or file.suffix != ".parquet":
            continue
        try:
            clips = rows_of(tables, file, IDENTITY)
        except VidgenError:
            continue
        unit = file.stem.removeprefix("part-")
        # The name tells what is in it, and by which version of this program.
        if clips and kept.isdisjoint(clips) and wanted.issuperset(clips) and unit == _key(name, clips):
            parts.append(Part(unit, file, len(clips)))
            kept.update(clips)
    return parts


def _key(name: str, clips: Sequence[tuple[str, ...]]) -> str:
    return digests.of_value([_VERSION, name, [list(clip) for clip in clips]], 32)


def _unit(tables: Tables, name: str, codec_dir: Path, clips: tuple[_Clip, ...]) -> _Unit:
    key = _key(name, [clip.identity for clip in clips])
    return _Unit(key, tables, name, codec_dir, clips)


@needs(memory_gib=1.5)
def _encode(unit: _Unit) -> Part:
    """The task: decode, code, write."""
    torch.set_num_threads(1)
    codec = _codec(unit.codec_dir, weights.digest(unit.codec_dir))
    codec.latent_shape(*unit.clips[0].shape)
    files = dict.fromkeys(clip.file for clip in unit.clips)
    media = {file: BytesColumn([unit.tables.local(file)], "media") for file in files}
    with torch.no_grad():
        latents = [codec.encode(_video(media[clip.file], clip.row))[0].half().numpy() for clip in unit.clips]
    if not all(np.isfinite(latent).all() for latent in latents):
        raise VidgenError("The codec gave latents that are not finite in float16", move="Train the codec again")
    told = zip(*(clip.identity for clip in unit.clips), strict=True)
    columns = {name: pa.array(values, pa.string()) for name, values in zip(IDENTITY, told, strict=True)}
    columns["latent"] = to_column(np.stack(latents))
    stored = Stored(latents[0].shape, latents[0].dtype)
    return _write(unit.tables, (unit.name, unit.key), columns, stored)


def _video(media: BytesColumn, row: int) -> torch.Tensor:
    return to_unit(torch.from_numpy(decode_clips([bytes(media.value(row))])))


@lru_cache(1)
def _codec(codec_dir: Path, digest: str) -> Codec:
    """One codec a process; the digest is in the key because a folder may be written again."""
    return open_codec(codec_dir)


def _embed(tables: Tables, name: str, encoder: TextEncoder, captions: Sequence[str]) -> Part:
    texts = [encoder.encode([caption]) for caption in captions]
    tokens = torch.cat([text.tokens for text in texts]).float().numpy()
    mask = torch.cat([text.mask for text in texts]).numpy()
    key = digests.of_value([name, list(captions)], 32)
    columns = {"caption": pa.array(captions), "tokens": to_column(tokens), "mask": to_column(mask)}
    return _write(tables, (name, key), columns, Stored(tokens.shape[1:], tokens.dtype))


def _write(tables: Tables, part: tuple[str, str], columns: Mapping[str, pa.Array], stored: Stored) -> Part:
    """Write a unit of a table, given as (name, key)."""
    rows = to_table(columns, stored)
    return Part(part[1], tables.write(*part, rows, **WRITING), len(rows))
