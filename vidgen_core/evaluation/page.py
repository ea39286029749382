"""The page: one HTML file that says what went in, what was kept, how it learned, what it reaches, and shows it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray

from vidgen_core.evaluation import wording
from vidgen_core.evaluation.curves import charts
from vidgen_core.evaluation.evaluate import Evaluation
from vidgen_core.evaluation.figures import aligned, bars, funnel, measured, number, percent, rejects
from vidgen_core.evaluation.page_measures import distances, strip
from vidgen_core.evaluation.pictures import Picture, picture
from vidgen_core.evaluation.speeds import speed
from vidgen_core.evaluation.truth import Share

__all__ = ["PageData", "render"]

_MOST_STEPS = 6  # of the samples through training
_COPIES = 8  # made clips that are shown beside their nearest training clips
# Characters that HTML has no place for, not even escaped.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class PageData:
    """All that the page shows; what has a default may be unknown, and is then left out.

    Attributes:
        title: The model and its version.
        promoted, reasons: What the gate decided, and why, in sentences.
        funnel: (step, count) from files to clips.
        rejects: Reason -> count.
        histories: Logged rows of each training, {"step": ..., name: value}.
        evaluation: What was measured.
        mistakes: For each made clip the aspects in which the exact checks fail it.
        champion, champion_is: What the champion draws of the same prompts and seeds, and its name; or why nothing.
        nearest, nearness: The training clip most like each made one, and how near it is: 1 is as near as new real
            clips are, 0 a copy.
        records: Of each made clip, what it was made from.
        made, real: Clips uint8 [N, T, H, W, 3], with `prompts` and `captions`; an empty caption is none.
        frame_rate: Of the clips, a fraction.
        facts: Where the version came from: digests, code, seeds, versions of libraries.
        held_out: Whether the real clips were kept from training.
        wanted: Aspect of the exact checks -> the least share that the gate asks for.
        seconds: Stage -> how long it took.
        strip, strip_prompts: Clips [N, T, H, W, 3] by step, drawn from the same seeds, and their N prompts.
        notes: What the trainings said to the user, in sentences.
        recipe: The whole recipe as text.

    """

    title: str
    promoted: bool
    reasons: Sequence[str]
    funnel: Sequence[tuple[str, int]]
    rejects: Mapping[str, int]
    histories: Mapping[str, Sequence[Mapping[str, Any]]]
    evaluation: Evaluation
    made: NDArray[np.uint8]
    prompts: Sequence[str]
    real: NDArray[np.uint8]
    captions: Sequence[str]
    frame_rate: str
    facts: Mapping[str, str]
    mistakes: Sequence[Sequence[str]] = ()
    champion: NDArray[np.uint8] | None = None
    champion_is: str = ""
    nearest: NDArray[np.uint8] | None = None
    nearness: Sequence[float] = ()
    records: Sequence[Mapping[str, Any]] = ()
    held_out: bool | None = None
    wanted: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    strip: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    strip_prompts: Sequence[str] = ()
    notes: Sequence[str] = ()
    recipe: str = ""


def render(data: PageData) -> str:
    """The page as text; it refers to nothing outside itself, and needs no script."""
    environment = Environment(
        loader=PackageLoader("vidgen_core.evaluation", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"aligned": aligned, "percent": percent}
    text = environment.get_template("page.html.j2").render(
        data=data,
        tiles=_tiles(data),
        groups=_groups(data),
        aspects=_aspects(data),
        distances=distances(data.evaluation.distances),
        measures=distances(data.evaluation.measures),
        beside_champion=_beside_champion(data),
        copies=_copies(data),
        records=json.dumps(list(data.records), indent=1) if data.records else "",
        held_out=_held_out(data),
        charts=[chart for name, rows in data.histories.items() for chart in charts(name, rows)],
        through=_through_training(data),
        speeds=[one for name, rows in data.histories.items() if (one := speed(name, rows))],
        funnel=funnel(data.funnel),
        rejects=rejects(data.rejects),
        seconds=bars([(wording.named(name), value) for name, value in data.seconds.items()]),
        clip_facts=_clip_facts(data),
        not_run={wording.named(name): why for name, why in data.evaluation.not_run.items() if name != "truth"},
    )
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _tiles(data: PageData) -> list[dict[str, str]]:
    """The figures to read first; only those that were measured."""
    tiles = []
    if data.funnel:
        (first, files), (last, clips) = data.funnel[0], data.funnel[-1]
        tiles.append({"name": f"{last} from {files:,} {first}", "value": f"{clips:,}", "note": ""})
    truth = data.evaluation.truth
    for aspect in ("color", "shape", "direction") if truth else ():
        share = getattr(truth, aspect)
        if share.total:
            note = f"{share.right} of {share.total} generated clips"
            tiles.append({"name": f"{aspect} as the prompt says", "value": percent(share.value, 0), "note": note})
    if not truth and (one := data.evaluation.distance("rfd")) and measured(one.value):
        tiles.append({"name": "random-feature Frechet distance", "value": number(one.value),
                      "note": f"real against real: {number(one.floor)}"})  # fmt: skip
    if measured(loss := data.evaluation.held_out.get("loss")):
        tiles.append({"name": "held-out loss", "value": number(loss), "note": ""})
    if measured(seconds := data.evaluation.seconds_per_clip):
        tiles.append({"name": "to generate a clip", "value": f"{number(seconds)}\N{NO-BREAK SPACE}s", "note": ""})
    return tiles


@dataclass(frozen=True)
class _Shown:
    """A clip with its words; `of` says what made it."""

    of: str
    words: str
    picture: Picture
    wrong: str = ""


def _shown(of: str, clips: NDArray[np.uint8], words: Sequence[str], frame_rate: str) -> list[_Shown]:
    return [
        _Shown(of, text.strip(), picture(clip, frame_rate)) for clip, text in zip(clips, words, strict=False)
    ]  # fmt: skip


def _groups(data: PageData) -> list[dict[str, Any]]:
    """Clips under headings: by caption where generated clips answer the real ones, otherwise those and these."""
    made = _made(data)
    real = _shown("real", data.real, data.captions, data.frame_rate)
    captions = {shown.words for shown in real}
    if made and real and all(shown.words in captions for shown in made):
        words = dict.fromkeys(shown.words for shown in (*made, *real))
        return [{"words": text, "clips": [one for one in (*real, *made) if one.words == text]} for text in words]
    titles = {True: "Real, kept from training", False: "Real, also learned from", None: "Real"}
    return [{"title": "Generated", "clips": made}, {"title": titles[data.held_out], "clips": real}]


def _through_training(data: PageData) -> list[dict[str, Any]]:
    """For each prompt what was drawn at some steps, evenly from the first to the last."""
    steps = list(data.strip)
    places = sorted({round(place) for place in np.linspace(0, len(steps) - 1, min(_MOST_STEPS, len(steps)))})
    chosen = [steps[place] for place in places]
    rows = []
    for row, words in enumerate(data.strip_prompts if chosen else ()):
        drawn = [_shown("drawn", data.strip[step][[row]], [words], data.frame_rate)[0] for step in chosen]
        rows.append({"words": words, "clips": list(zip([f"step {step:,}" for step in chosen], drawn, strict=True))})
    return rows


def _made(data: PageData) -> list[_Shown]:
    """Made clips with what is wrong with them, in words."""
    shown = _shown("generated", data.made, data.prompts, data.frame_rate)
    titles = [[wording.ASPECTS.get(name, (name, ""))[0].lower() for name in names] for names in data.mistakes]
    wrong = [f"wrong: {', '.join(names)}" if names else "" for names in titles] or [""] * len(shown)
    return [replace(one, wrong=told) for one, told in zip(shown, wrong, strict=False)]


def _beside_champion(data: PageData) -> list[dict[str, Any]]:
    """Each prompt as this version and as the champion draw it from the same seed."""
    if data.champion is None:
        return []
    theirs = _shown("champion", data.champion, data.prompts, data.frame_rate)
    return [{"words": ours.words, "clips": [ours, its]} for ours, its in zip(_made(data), theirs, strict=False)]


def _copies(data: PageData) -> list[dict[str, Any]]:
    """The made clips that are nearest to a training clip, and that clip."""
    if data.nearest is None:
        return []
    rows = []
    for place in sorted(range(len(data.nearness)), key=lambda place: data.nearness[place])[:_COPIES]:
        made = _shown("generated", data.made[[place]], [data.prompts[place]], data.frame_rate)
        real = _shown("learned from", data.nearest[[place]], [""], data.frame_rate)
        rows.append({"words": data.prompts[place], "clips": [*made, *real], "near": number(data.nearness[place], 2)})
    return rows


def _clip_facts(data: PageData) -> str:
    """Size, length and rate of the clips on the page."""
    clips = data.made if len(data.made) else data.real
    if not len(clips):
        return ""
    _, frames, height_px, width_px, _ = clips.shape
    return f"{frames} frames of {width_px} \N{MULTIPLICATION SIGN} {height_px} pixels, {data.frame_rate} a second"


def _aspects(data: PageData) -> list[dict[str, Any]]:
    """Rows of the exact checks, with the checker's own on real clips."""
    truth, truth_real = data.evaluation.truth, data.evaluation.truth_real
    rows: list[dict[str, Any]] = []
    for name in type(truth).model_fields if truth else ():
        made, real = getattr(truth, name), getattr(truth_real, name, None)
        if not isinstance(made, Share):
            continue
        title, meaning = wording.ASPECTS.get(name, (wording.named(name), ""))
        low, high = (made.low, made.high) if made.total else (None, None)
        wanted = data.wanted.get(name)
        marks = {"value": made.value, "low": low, "high": high, "wanted": wanted}
        rows.append({"title": title, "meaning": meaning, "made": made, "low": low, "high": high, "real": real,
                     "wanted": wanted, "strip": strip(marks, 0.0, 1.0)})  # fmt: skip
    return rows


def _held_out(data: PageData) -> list[dict[str, str]]:
    """Held-out figures of each training: the last, and the lowest loss on the way."""
    rows = []
    for training, history in data.histories.items():
        for name in dict.fromkeys(name for row in history for name in row if name.startswith("held_out/")):
            points = [(row[name], int(row["step"])) for row in history if name in row]
            lowest = min((point for point in points if measured(point[0])), default=None)
            rows.append(_held_out_row(training, name.removeprefix("held_out/"), points[-1][0], lowest))
    if not rows:
        rows = [_held_out_row("generator", name, value, None) for name, value in data.evaluation.held_out.items()]
    return rows


def _held_out_row(training: str, name: str, last: float, lowest: tuple[float, int] | None) -> dict[str, str]:
    if re.fullmatch(r"t[01]\.\d+", name):
        title, meaning = f"At noise time {name[1:]}", "The loss where 0 is a clip and 1 is noise; lower is better."
    else:
        title, meaning = wording.HELD_OUT.get(name, (wording.named(name), ""))
    told = f"{number(lowest[0])} at step {lowest[1]:,}" if lowest and name == "loss" else ""
    return {"training": training, "title": title, "meaning": meaning, "value": number(last), "lowest": told}
