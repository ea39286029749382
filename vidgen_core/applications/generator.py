"""A trained generator as one thing: family, codec, text encoder and the defaults that it was judged with.

Its folder rebuilds it without anything of the training path: `generator.json`, `family/` and `codec/`.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from vidgen_core import digests, discovery, weights
from vidgen_core.chance import Chance
from vidgen_core.choices import first_complaint
from vidgen_core.codecs._open import open_codec
from vidgen_core.encoders._open import open_encoder
from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen
from vidgen_core.interfaces import Ask, Codec, Family, Space, TextEncoder, to_clips
from vidgen_core.known import KnownMask
from vidgen_core.sampling import Sampling
from vidgen_core.scalars import named
from vidgen_core.shapes import Index, Latents

__all__ = ["Card", "Generator", "assemble", "check_prompt", "digest"]

_LONGEST_PROMPT = 1000


class Card(Frozen):
    """What a generator is made of.

    Args:
        family, config: File and configuration of the family.
        space: The space of its samples.
        text, text_config: File and configuration of the text encoder.
        text_digest: Its digest; an encoder that is opened from a path must still be the one that was learned with.
        frame_rate: Of the videos, as a fraction.
        sampling: Defaults.
        facts: Where it comes from: digests of its data and settings.

    """

    family: str
    config: dict[str, Any]
    space: Space
    text: str
    text_config: dict[str, Any]
    text_digest: str = ""
    frame_rate: str
    sampling: Sampling
    facts: dict[str, Any] = {}


def assemble(folder: Path, card: Card, *, family_dir: Path, codec_dir: Path) -> str:
    """Put a generator's folder together from trained parts; its digest, which is that of all its files."""
    staging = folder.with_name(f".{folder.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    for name, source in (("family", family_dir), ("codec", codec_dir)):
        shutil.copytree(source, staging / name)
    (staging / "generator.json").write_text(card.model_dump_json(indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)
    return digest(folder)


def digest(folder: Path) -> str:
    """Digest of a generator: of its weights and of what it is made of."""
    card = json.loads((folder / "generator.json").read_text())
    card.pop("facts", None)
    return digests.of_value([card, weights.digest(folder / "family"), weights.digest(folder / "codec")], 32)


class Generator:
    """Prompts to videos.

    Args:
        card: What it is made of.
        family, codec, encoder: Its parts, with their weights.

    """

    def __init__(self, card: Card, family: Family, codec: Codec, encoder: TextEncoder) -> None:
        self.card, self.family, self.codec, self.encoder = card, family, codec, encoder

    @classmethod
    def load(cls, folder: Path) -> "Generator":
        """Open a generator's folder.

        Raises:
            VidgenError: The folder is none, another version of vidgen wrote it, or its weights are damaged or another
                family's.

        """
        if not (folder / "generator.json").exists():
            raise VidgenError("There is no generator in this folder", got=str(folder), move="Train one: vidgen run")
        try:
            return cls._opened(folder)
        except ValidationError as error:
            raise VidgenError(
                f"The generator in {folder} was written by another version of vidgen", got=first_complaint(error),
                move="Open it with that version, or train it again: vidgen run",
            ) from error  # fmt: skip

    @classmethod
    def _opened(cls, folder: Path) -> "Generator":
        card = Card.model_validate_json((folder / "generator.json").read_text())
        state, _ = weights.load(folder / "family")
        config = discovery.load("vidgen_core.families", card.family).Config.model_validate(card.config)
        family: Family = config.build(card.space)
        weights.put(state, family, folder / "family")
        family.eval().requires_grad_(False)
        encoder = open_encoder(card.text, card.text_config)
        if card.text_digest not in ("", encoder.digest):
            raise VidgenError(
                "The text encoder is not the one that this generator learned with",
                got=f"{card.text} {card.text_config}: {encoder.digest}",
                allowed=card.text_digest,
                move="Put the encoder's weights back where they were",
            )
        return cls(card, family, open_codec(folder / "codec"), encoder)

    def videos(
        self, prompts: Sequence[str], *, seed: int = 0, sampling: Sampling | None = None, batch: int = 16
    ) -> NDArray[np.uint8]:
        """Videos uint8 [N, T, H, W, 3], one a prompt; video i is a function of the weights, its prompt, seed and i.

        Raises:
            VidgenError: A prompt is empty or too long, or the model knows no such condition, or no negative prompts.

        """
        chance, made = Chance(seed).within("generate"), []
        for start in range(0, len(prompts), batch):
            part = prompts[start : start + batch]
            latents = self.latents(part, torch.arange(start, start + len(part)), chance, sampling=sampling)
            with torch.inference_mode():
                made.append(to_clips(self.codec.decode(latents)).numpy())
        return np.concatenate(made)

    @torch.inference_mode()
    def latents(
        self, prompts: Sequence[str], index: Index, chance: Chance, *, sampling: Sampling | None = None,
        known: tuple[Latents, KnownMask] | None = None, rounds: int = 1,
    ) -> Latents:  # fmt: skip
        """Latents [B, C, T, H, W] of one video a prompt.

        Args:
            prompts: What to show.
            index: Number of each sample [B]; with the chance it fixes the sample.
            chance: Where draws come from.
            sampling: How; the defaults that the model was judged with if None.
            known: Latents [B, C, T, H, W], and where they are given and kept [B, 1, T, H, W].
            rounds: See `Ask`.

        Raises:
            VidgenError: A prompt is empty or too long, or the model knows no such condition, no negative prompts, or
                cannot be given anything.

        """
        chosen = sampling or self.card.sampling
        for prompt in [*prompts, *([chosen.negative] if chosen.negative else [])]:
            check_prompt(prompt)
        if chosen.negative and not self.family.accepts_negative:
            raise VidgenError(
                "This model cannot be led away from a prompt", got=f"family {self.card.family}", move="Drop --negative"
            )
        if known is not None:
            self.check_accepts_known()
        scalars = {name: _value(self.card.space, name, told) for name, told in chosen.conditions.items()}
        ask = Ask(
            index=index,
            shape=self.card.space.shape,
            text=self.encoder.encode(list(prompts)),
            steps=chosen.steps,
            sampler=chosen.sampler,
            guidance=chosen.guidance,
            guiding=chosen.guiding,
            negative=self.encoder.encode([chosen.negative] * len(prompts)) if chosen.negative else None,
            known=None if known is None else known[0],
            known_mask=None if known is None else known[1],
            rounds=rounds,
            scalars={name: torch.full((len(prompts),), value) for name, value in scalars.items()},
        )
        return self.family.generate(ask, chance)

    def check_accepts_known(self) -> None:
        """Refuse what the family cannot do.

        Raises:
            VidgenError: It draws whole videos only.

        """
        if not self.family.accepts_known:
            raise VidgenError(
                "This model draws whole videos only and cannot go on from given pictures",
                got=f"family {self.card.family}",
                allowed="a family that accepts known frames, such as flow_matching or diffusion",
                move="Choose another --model, or drop --image, --extend, --interpolate and --inpaint",
            )

    @property
    def pixels(self) -> tuple[int, int, int]:
        """(frames, height, width) of its videos."""
        _, frames, height, width = self.card.space.shape
        time, space = self.codec.time_stride, self.codec.space_stride
        return 1 + (frames - 1) * time, height * space, width * space


def _value(space: Space, name: str, told: float | str) -> float:
    """A condition in its own unit."""
    scalar = named(space.scalars, name)
    return scalar.at(float(told.removesuffix("%")) / 100) if isinstance(told, str) else told


def check_prompt(prompt: str) -> None:
    """Refuse what is no prompt.

    Raises:
        VidgenError: It is empty or longer than 1000 characters.

    """
    if not prompt.strip():
        move = 'Say what to show, for example --prompt "a red square moves left"'
        raise VidgenError("The prompt is empty", move=move)
    if len(prompt) > _LONGEST_PROMPT:
        raise VidgenError(
            "The prompt is too long",
            got=f"{len(prompt)} characters",
            allowed=f"up to {_LONGEST_PROMPT}",
            move="Say it shorter; words beyond the text encoder's length would not be read anyway",
        )
