"""What a critic adds to each family that hybrids wrap: the same clips, steps and sizes with it and without it.

    OMP_NUM_THREADS=2 python tests/bench/bench_hybrids.py vae|flow|diffusion [STEPS]

Clips of 3 x 8 x 8 of one moving shape each. `frechet` is the distance of 256 made clips from 256 real ones in the
project's random features, `floor` that of other real ones; `color` the share of made clips whose most saturated pixels
have the color of the prompt (chance 1/6). Weights are averaged ones.
"""

import sys
import time

import numpy as np
import torch

from vidgen_core import discovery, scene
from vidgen_core.chance import Chance
from vidgen_core.encoders.hashed_words import Config as HashedWords
from vidgen_core.evaluation.distances import frechet
from vidgen_core.evaluation.features import random_features
from vidgen_core.interfaces import Ask, Batch, Space, to_clips, to_unit
from vidgen_core.training import loop
from vidgen_core.training.place import Place
from vidgen_core.training.settings import TrainSettings

SPACE = Space(channels=3, frames=3, height=8, width=8, text_dim=64)
WORDS = HashedWords.tiny().build()
BATCH, JUDGED, SIDE = 32, 256, 8
COLORS, WAYS = list(scene.COLORS), list(scene.DIRECTIONS)
DENOISER = {"network": {"dim": 64, "depth": 2, "heads": 2, "stem_channels": 32}, "time_shift": 2.0}
CRITIC = {"widths": [16, 32, 32]}


def _tell(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def clip(number):
    """A clip uint8 [3, 8, 8, 3] and its caption."""
    rng = np.random.default_rng(number)
    color, way = COLORS[rng.integers(6)], WAYS[rng.integers(4)]
    shape = scene.SHAPES[rng.integers(3)]
    step, start = np.array(scene.DIRECTIONS[way]) * 0.7, rng.uniform(3, 5, 2)
    frames = np.full((3, SIDE, SIDE, 3), rng.uniform(60, 120))
    for place, frame in enumerate(frames):
        x, y = start + (place - 1) * step
        covered = scene.coverage(shape, (x, y), 2.0, SIDE, SIDE)[..., None]
        frame[:] = frame * (1 - covered) + np.array(scene.COLORS[color]) * covered
    return frames.astype(np.uint8), f"a {color} {shape} moves {way}"


def clips(first, count):
    """So many clips uint8 [N, T, H, W, 3], and their captions."""
    pairs = [clip(number) for number in range(first, first + count)]
    return np.stack([one for one, _ in pairs]), [caption for _, caption in pairs]


def batch(first):
    """A batch of the stream."""
    video, captions = clips(first, BATCH)
    return Batch(to_unit(torch.from_numpy(video)), WORDS.encode(captions), torch.arange(first, first + BATCH))


def judged(family, **how):
    """Distance of what a family makes for held-out captions, and how many have the color that was asked for."""
    real, captions = clips(10**6, JUDGED)
    with torch.no_grad():
        ask = Ask(torch.arange(JUDGED), SPACE.shape, WORDS.encode(captions), **how)
        made = to_clips(family.generate(ask, Chance(1))).numpy()
    pixels = made.reshape(JUDGED, -1, 3).astype(float)
    saturation = pixels.max(2) - pixels.min(2)
    top = np.argsort(-saturation, axis=1)[:, :12]
    seen = np.take_along_axis(pixels, top[..., None], 1).mean(1)
    chroma = seen - seen.mean(1, keepdims=True)
    hues = np.array(list(scene.COLORS.values()), float)
    hues -= hues.mean(1, keepdims=True)
    hues /= np.linalg.norm(hues, axis=1, keepdims=True)
    right = [
        COLORS[best] == caption.split()[1] for best, caption in zip((chroma @ hues.T).argmax(1), captions, strict=True)
    ]
    return f"frechet {frechet(random_features(real), random_features(made)):.4f}  color {np.mean(right):.2f}"


def built(name, options, state=None):
    """A family; with a state its teacher and its student start from that."""
    torch.manual_seed(0)
    family = discovery.load("vidgen_core.families", name).Config.model_validate(options).build(SPACE)
    for part in ("teacher", "student") if state is not None else ():
        getattr(family, part).load_state_dict(state)
    return family


def trained(label, family, steps, *how):
    """Train it, tell what it came to, and return its averaged weights."""
    settings = TrainSettings(steps=steps, batch=BATCH, learning_rate=1e-3, warmup_steps=20, ema_decay=0.99)
    state = loop.State(family, settings)
    began, pieces = time.process_time(), ([batch(BATCH * step)] for step in range(steps))
    for step in loop.run(state, pieces, chance=Chance(0), settings=settings, place=Place()):
        assert not step.stop
    spent = time.process_time() - began
    with state.averaged() as learner:
        learner.eval()
        held = batch(2 * 10**6)
        with torch.no_grad():
            values = {name: f"{value.mean():.4f}" for name, value in learner.held_out(held, Chance(2)).items()}
        for one in how or ({},):
            _tell(f"{label:34} {steps} steps {spent:5.0f} CPU s  {one or ''}  {judged(learner, **one)}")
        _tell(f"    {values}")
        return {name: value.clone() for name, value in learner.state_dict().items()}


def main(which, steps):
    """One family without a critic and with one."""
    a, b = (random_features(clips(first, JUDGED)[0]) for first in (10**6, 3 * 10**6))
    _tell(f"floor {frechet(a, b):.4f}")
    if which == "vae":
        vae = {"network": {"dim": 64, "encoder_depth": 2, "decoder_depth": 2, "heads": 2}, "warmup_samples": 8000}
        trained("vae", built("vae", vae), steps)
        for weights in ({}, {"pixel_weight": 0.0, "feature_weight": 30.0}):
            options = {"vae": {"name": "vae", "options": vae}, "critic": CRITIC, **weights}
            trained(f"vae_gan {weights}", built("vae_gan", options), steps)
    elif which == "flow":
        flow = {"network": {"dim": 64, "blocks": 4, "depth": 1, "heads": 2, "patch_px": 2}}
        for weight in (0.0, 0.1):
            options = {"flow": {"name": "normalizing_flow", "options": flow}, "critic": CRITIC}
            trained(f"flow_gan lambda {weight}", built("flow_gan", {**options, "adversarial_weight": weight}), steps)
    else:
        few = [{"steps": count, "sampler": "euler"} for count in (1, 2, 4)]
        state = trained("flow_matching", built("flow_matching", DENOISER), steps, *few)
        teacher = {"teacher": {"name": "flow_matching", "options": DENOISER}, "critic": CRITIC}
        for label, more, start in (
            ("with a teacher", {"teacher_weights": "-"}, state), ("from scratch", {}, None),
        ):  # fmt: skip
            trained(f"diffusion_gan {label}", built("diffusion_gan", {**teacher, **more}, start), steps, *few)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 300)
