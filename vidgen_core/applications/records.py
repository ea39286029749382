"""What a sample was made from, so that anybody with the model can make it again."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vidgen_core.applications.generator import Generator
from vidgen_core.chance import Chance
from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen
from vidgen_core.interfaces import to_clips
from vidgen_core.sampling import Sampling

__all__ = ["SampleRecord", "changed_pixels", "record", "replay"]

Clips = NDArray[np.uint8]


class SampleRecord(Frozen):
    """Where one sample comes from.

    Args:
        purpose: What it was drawn for.
        model: Digest of the generator: of its weights and of what it is made of.
        family: File of the family.
        sampling: Sampler, steps, guidance and all else that shapes it.
        seed: Of the draw.
        index: Which sample of the draw; the noise is a function of seed and index.
        prompt: What was asked for.
        pixels: SHA-256 of its bytes uint8 [T, H, W, 3]; another processor may round a pixel otherwise.

    """

    purpose: str
    model: str
    family: str
    sampling: Sampling
    seed: int
    index: int
    prompt: str
    pixels: str


def record(
    generator: Generator, model: str, *, purpose: str, clips: Clips, prompts: Sequence[str], seed: int
) -> list[SampleRecord]:
    """A record for each clip of a draw with the generator's own sampling.

    Args:
        generator: What drew.
        model: Its digest.
        purpose: What it was drawn for.
        clips: Uint8 [N, T, H, W, 3].
        prompts: Theirs.
        seed: Of the draw.

    """
    card = generator.card
    return [
        SampleRecord(
            purpose=purpose, model=model, family=card.family, sampling=card.sampling, seed=seed, index=index,
            prompt=prompt, pixels=_digest(clip),
        )
        for index, (clip, prompt) in enumerate(zip(clips, prompts, strict=True))
    ]  # fmt: skip


def replay(generator: Generator, model: str, records: Sequence[SampleRecord]) -> Clips:
    """The clips of some records again, uint8 [N, T, H, W, 3].

    Raises:
        VidgenError: A record is of another model than this one, whose digest is given.

    """
    for one in records:
        if one.model != model:
            raise VidgenError(
                "The record is of another model",
                got=model,
                allowed=one.model,
                move="Name the version that drew it, as NAME/NUMBER",
            )
    drawn = []
    for one in records:
        chance = Chance(one.seed).within("generate")
        latents = generator.latents([one.prompt], torch.tensor([one.index]), chance, sampling=one.sampling)
        with torch.inference_mode():
            drawn.append(to_clips(generator.codec.decode(latents)).numpy())
    return np.concatenate(drawn)


def changed_pixels(clip: Clips, one: SampleRecord) -> bool:
    """Whether a clip [T, H, W, 3] is not to the byte the one of the record."""
    return _digest(clip) != one.pixels


def _digest(clip: Clips) -> str:
    return hashlib.sha256(np.ascontiguousarray(clip).tobytes()).hexdigest()
