"""Averages of weights over time whose length is chosen after training.

Karras et al. 2023, "Analyzing and Improving the Training Dynamics of Diffusion Models" (arXiv:2312.02696), section 3
and appendix C. An average with exponent g weighs the weights of optimizer step s in proportion to s^g, so that it
forgets the beginning at the same relative speed however long the run is. Its length is the profile's standard
deviation over the length of the run, at most 1/sqrt(12) = 0.289. A few averages are tracked, and snapshots of them kept
now and then; any other profile is a linear combination of those, found by least squares.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidgen_core.errors import VidgenError
from vidgen_core.training.checkpoints import facts, published, read
from vidgen_core.training.store import Store

__all__ = ["LONGEST", "Profile", "Reconstruction", "combine", "decay", "exponent", "length", "reconstruct"]

# The length of a plain mean, whose exponent is 0.
LONGEST = 1 / math.sqrt(12)
_CHUNK = 2**16


class Profile(NamedTuple):
    """An average as it stands after some optimizer steps."""

    steps: int
    exponent: float


class Reconstruction(NamedTuple):
    """Averaged weights by the learner's names, of how many averages they are made, and the profile's error."""

    weights: dict[str, Tensor]
    parts: int
    error: float


def length(exponent: float) -> float:
    """The relative length of an average: sqrt(g + 1) / ((g + 2) sqrt(g + 3))."""
    return math.sqrt(exponent + 1) / ((exponent + 2) * math.sqrt(exponent + 3))


def exponent(length: float) -> float:
    """The exponent of a relative length in (0, 0.289): the root of g^3 + 7 g^2 + (16 - 1/l^2) g + 12 - 1/l^2.

    Raises:
        VidgenError: No average has this length.

    """
    if not 0 < length <= LONGEST:
        raise VidgenError(
            "No power-function average has this length", got=length, allowed="above 0, up to 0.288", move="Try 0.1"
        )
    inverse = length**-2
    return float(max(np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse]).real.max(), 0.0))


def decay(steps: int, exponent: float) -> float:
    """How much of the average stays at optimizer step `steps`, counted from 1: (1 - 1/steps)^(g + 1)."""
    return (1.0 - 1.0 / steps) ** (exponent + 1.0)


def combine(snapshots: Sequence[Profile], target: Profile) -> tuple[NDArray[np.float64], float]:
    """Factors of snapshots whose sum is nearest to a target in the profile, and its error over the target's length.

    Profiles are those of the discrete update: step s of n weighs (s/n)^(g+1) - ((s-1)/n)^(g+1), with sum 1.
    """
    count = len(snapshots)
    products, right, square = np.zeros((count, count)), np.zeros(count), 0.0
    last = max(profile.steps for profile in [*snapshots, target])
    for start in range(1, last + 1, _CHUNK):
        step = np.arange(start, min(start + _CHUNK, last + 1), dtype=np.float64)
        rows = np.stack([_weights(profile, step) for profile in [*snapshots, target]])
        products += rows[:-1] @ rows[:-1].T
        right += rows[:-1] @ rows[-1]
        square += float(rows[-1] @ rows[-1])
    # Scaled to a unit diagonal, because profiles of few steps are much higher than those of many.
    scale = 1.0 / np.sqrt(np.diag(products))
    factors = scale * np.linalg.lstsq(products * np.outer(scale, scale), right * scale, rcond=1e-13)[0]
    left = float(square - 2 * factors @ right + factors @ products @ factors)
    return factors, math.sqrt(max(0.0, left) / square)


def reconstruct(store: Store, wanted: float) -> Reconstruction:
    """The average of any relative length at the end of a run, from its snapshots.

    Args:
        store: The run's snapshots: tensors LENGTH/PLAYER/WEIGHT, and as facts the lengths and each player's steps.
        wanted: Its relative length.

    Raises:
        VidgenError: The run kept no snapshots, or the length is out of range.

    """
    kept, goal = [(folder, facts(store, folder)) for folder in published(store)], exponent(wanted)
    if not kept:
        raise VidgenError(
            "This run kept no snapshots of averages", move='Train with --set "training.ema_lengths=[0.05,0.1]"'
        )
    factors: dict[str, NDArray[np.float64]] = {}
    errors: dict[str, float] = {}
    for player, last in kept[-1][1]["steps"].items():
        profiles = [Profile(told["steps"][player], exponent(one)) for _, told in kept for one in told["lengths"]]
        factors[player], errors[player] = combine(profiles, Profile(last, goal))
    made: dict[str, Tensor] = {}
    number = 0
    for folder, told in kept:
        tensors, _ = read(store, folder)
        for one in told["lengths"]:
            for player, shares in factors.items():
                _add(made, tensors, f"{one:g}/{player}/", float(shares[number]))
            number += 1
    return Reconstruction({name: value.float() for name, value in made.items()}, number, max(errors.values()))


def _weights(profile: Profile, step: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a profile gives to some steps."""
    power = profile.exponent + 1.0
    with np.errstate(divide="ignore"):
        shares = (np.minimum(step / profile.steps, 1.0)) ** power * -np.expm1(power * np.log1p(-1.0 / step))
    return np.where(step <= profile.steps, shares, 0.0)


def _add(made: dict[str, Tensor], tensors: Mapping[str, Tensor], prefix: str, factor: float) -> None:
    for name, value in tensors.items():
        if name.startswith(prefix):
            plain = name.removeprefix(prefix)
            made[plain] = made.get(plain, torch.zeros_like(value, dtype=torch.float64)) + factor * value.double()
