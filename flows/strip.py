"""The same seeds through training: what a few prompts draw at each checkpoint, beside the run that publishes them."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.tables import Tables
from vidgen_core.applications.generator import Card, Generator
from vidgen_core.codecs._open import open_codec
from vidgen_core.encoders._open import open_encoder
from vidgen_core.evaluation.pictures import animated
from vidgen_core.frozen import Frozen
from vidgen_core.interfaces import Family, Learner
from vidgen_core.registry.tracking import Tracker
from vidgen_core.training.following import follow
from vidgen_core.training.job import Job

__all__ = ["Strip", "draw_strip", "prompts_of", "read_strip"]

_PROMPTS = 4
_PLAIN = "a video"


class Strip(Frozen):
    """What is drawn at each checkpoint, and where it goes.

    Args:
        card: What the generator is made of.
        codec_dir: Its codec.
        prompts: One clip each.
        seed: Of the samples, the same at every step.
        folder: Takes `step-00000200.npz` with `clips` uint8 [N, T, H, W, 3] and the same as a moving picture.
        uri, run_id: The MLflow run that the pictures are logged to.

    """

    card: Card
    codec_dir: Path
    prompts: tuple[str, ...]
    seed: int
    folder: Path
    uri: str
    run_id: str


def prompts_of(tables: Tables) -> tuple[str, ...]:
    """A few captions, of clips kept from training where there are any."""
    split = {row["clip_id"]: row["split"] for row in tables.read("clips", ["clip_id", "split"]).to_pylist()}
    said = sorted((split[row["clip_id"]] != "held_out", row["clip_id"], row["caption"])
                  for row in tables.read("captions").to_pylist()
                  if row["rank"] == 0 and row["caption"] and row["clip_id"] in split)  # fmt: skip
    return tuple(dict.fromkeys(caption for _, _, caption in said))[:_PROMPTS] or (_PLAIN,)


def draw_strip(strip: Strip, job: Job) -> None:
    """Draw at every checkpoint of a run until it has ended."""
    strip.folder.mkdir(parents=True, exist_ok=True)
    follow(job, partial(_draw, strip))


def read_strip(folder: Path) -> dict[int, NDArray[np.uint8]]:
    """Clips uint8 [N, T, H, W, 3] by step, in the order of the steps."""
    files = sorted(folder.glob("step-*.npz"))
    return {int(file.stem.removeprefix("step-")): np.load(file)["clips"] for file in files}


def _draw(strip: Strip, learner: Learner, step: int) -> None:
    file = strip.folder / f"step-{step:08d}.npz"
    if file.exists():
        return
    assert isinstance(learner, Family)
    encoder = open_encoder(strip.card.text, strip.card.text_config)
    generator = Generator(strip.card, learner, open_codec(strip.codec_dir), encoder)
    clips = generator.videos(strip.prompts, seed=strip.seed)
    picture = file.with_suffix(".webp")
    # Side by side, in the order of the prompts.
    picture.write_bytes(animated(np.concatenate(list(clips), axis=2), strip.card.frame_rate))
    staged = file.with_name(f".{file.name}")
    np.savez_compressed(staged, clips=clips)
    staged.replace(file)
    Tracker(strip.uri, strip.run_id).artifact(picture, "strip")
