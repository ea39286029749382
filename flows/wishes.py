"""What a sample is to be drawn around: files that were named, read and handed to the application that they ask for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.given import Shown, read_mask, read_picture, read_video
from vidgen_core.applications.complete import Completed, Drawing
from vidgen_core.applications.extend import extend
from vidgen_core.applications.generator import Generator
from vidgen_core.applications.image_to_video import animate
from vidgen_core.applications.inpaint import inpaint
from vidgen_core.applications.interpolate import between, between_keys
from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen

__all__ = ["Wish", "drawn_around"]

_TASKS = ("image", "extend", "interpolate", "inpaint")
# Which options belong to which task alone.
_OWN = {"frames": "extend", "overlap": "extend", "until": "interpolate", "mask": "inpaint"}


class Wish(Frozen):
    """What is given, and what is to be done with it; at most one of image, extend, interpolate and inpaint.

    Args:
        image: A picture that begins to move.
        extend, frames, overlap: A video that goes on, to so many frames, by windows that know so many of each other.
        interpolate, until, every: Two pictures, or a video whose every so many-th group of frames is kept.
        inpaint, mask: A video of which a part, "x,y,w,h" or a picture, is drawn anew.
        rounds: Times that each solver step is taken; see `Ask`.

    """

    image: Path | None = None
    extend: Path | None = None
    frames: int | None = None
    overlap: int | None = None
    interpolate: Path | None = None
    until: Path | None = None
    every: int = 2
    inpaint: Path | None = None
    mask: str | None = None
    rounds: int = 1

    @property
    def task(self) -> str:
        """What is asked for; "" is a video from nothing.

        Raises:
            VidgenError: Several things at once, or an option without its task.

        """
        asked = [name for name in _TASKS if getattr(self, name) is not None]
        if len(asked) > 1:
            raise VidgenError("One thing at a time", got=", ".join(f"--{name}" for name in asked))
        for option, task in _OWN.items():
            if getattr(self, option) is not None and asked != [task]:
                named = "a second file" if option == "until" else f"--{option}"
                raise VidgenError(f"What {named} says belongs to --{task}", move=f"Add --{task}, or leave it out")
        if self.inpaint is not None and self.mask is None:
            raise VidgenError("It is not said what to draw anew", move="Add --mask x,y,w,h or --mask FILE, white there")
        return asked[0] if asked else ""


def drawn_around(
    generator: Generator, wish: Wish, prompts: Sequence[str], drawing: Drawing
) -> tuple[NDArray[np.uint8], list[str]]:
    """Videos uint8 [N, T, H, W, 3], one a prompt, and what the user should know.

    Raises:
        VidgenError: The model cannot do it, or what is given will not do.

    """
    generator.check_accepts_known()
    made, shown = {"image": _image, "extend": _extend, "interpolate": _interpolate, "inpaint": _inpaint}[wish.task](
        generator, wish, prompts, drawing
    )
    return made.video, [*(one.note for one in shown if one.note), _fidelity(made)]


def _image(
    generator: Generator, wish: Wish, prompts: Sequence[str], drawing: Drawing
) -> tuple[Completed, list[Shown]]:  # fmt: skip
    assert wish.image is not None
    shown = read_picture(wish.image, *generator.pixels[1:])
    return animate(generator, shown.video[0], prompts, drawing), [shown]


def _extend(
    generator: Generator, wish: Wish, prompts: Sequence[str], drawing: Drawing
) -> tuple[Completed, list[Shown]]:  # fmt: skip
    assert wish.extend is not None
    shown = read_video(wish.extend, *generator.pixels[1:], generator.card.frame_rate)
    made = extend(
        generator, shown.video, prompts, frames=wish.frames, overlap=wish.overlap, drawing=drawing
    )  # fmt: skip
    return made, [shown]


def _interpolate(
    generator: Generator, wish: Wish, prompts: Sequence[str], drawing: Drawing
) -> tuple[Completed, list[Shown]]:  # fmt: skip
    assert wish.interpolate is not None
    size = generator.pixels[1:]
    if wish.until is None:
        shown = _window(read_video(wish.interpolate, *size, generator.card.frame_rate), wish.interpolate, generator)
        return between_keys(generator, shown.video, prompts, every=wish.every, drawing=drawing), [shown]
    first, last = (read_picture(file, *size) for file in (wish.interpolate, wish.until))
    return between(generator, first.video[0], last.video[0], prompts, drawing), [first, last]


def _inpaint(
    generator: Generator, wish: Wish, prompts: Sequence[str], drawing: Drawing
) -> tuple[Completed, list[Shown]]:  # fmt: skip
    assert wish.inpaint is not None
    assert wish.mask is not None
    size = generator.pixels[1:]
    shown = _window(read_video(wish.inpaint, *size, generator.card.frame_rate), wish.inpaint, generator)
    hole = read_mask(wish.mask, shown, *size)
    return inpaint(generator, shown.video, hole, prompts, drawing), [shown]


def _window(shown: Shown, file: Path, generator: Generator) -> Shown:
    """As many frames as the model draws, from the start."""
    frames, there = generator.pixels[0], len(shown.video)
    if there < frames:
        raise VidgenError(
            f"{file.name} has too few frames",
            got=f"{there} at {generator.card.frame_rate} a second",
            allowed=f"{frames} or more, which this model draws at once",
            move="Give a longer video",
        )
    if there == frames:
        return shown
    cut = f"Of its {there} frames the first {frames} are taken, as many as the model draws at once."
    return Shown(
        shown.video[:frames], shown.width_px, shown.height_px, shown.sar, " ".join(filter(None, (shown.note, cut)))
    )  # fmt: skip


def _fidelity(made: Completed) -> str:
    told = f"Of the latents {made.known_share:.0%} were known; given pixels were put back as they are"
    if made.codec_psnr_db is None:
        return told + "."
    return f"{told} (the codec alone comes within {made.codec_psnr_db:.1f} dB of them)."
