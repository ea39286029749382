"""The gate: may this candidate take the champion's place? Reasons in sentences, in both cases."""

from typing import Any

from vidgen_core.evaluation.evaluate import Evaluation
from vidgen_core.evaluation.measurements import Measurement
from vidgen_core.frozen import Frozen
from vidgen_core.registry.settings import GateSettings

__all__ = ["Decision", "Evidence", "decide"]

# How the name of the nearest-training-clip ratio begins, among the measurements of an evaluation.
_NEAREST = "nearest"


class Evidence(Frozen):
    """All that is known of a candidate when the gate decides; it is kept with the version.

    Args:
        evaluation: What was measured.
        settings: What was asked for.
        run: The run that measured it.
        proof: The proof that its training resumes: what was found, in a sentence, and whether it passed; None where
            nobody asked for one.
        taken_down: Sources that it learned from and that were taken down since.
        drawn: Why no video can be drawn from the registry's bytes, "" where one could, None where nobody tried.

    """

    evaluation: Evaluation
    settings: GateSettings = GateSettings()
    run: str = ""
    proof: tuple[str, bool] | None = None
    taken_down: tuple[str, ...] = ()
    drawn: str | None = None


class Decision(Frozen):
    """Promoted or not, and why.

    Args:
        reasons: Every reason against the candidate; or the one for it.
        notes: What was not asked, in sentences, because it was not measured.

    """

    promoted: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()


def decide(candidate: Evidence, champion: Evaluation | None) -> Decision:
    """Every reason against the candidate, or why there is none."""
    against, notes = _of_the_data(candidate), list[str]()
    against += _absolute(candidate.evaluation, candidate.settings)
    for missing, required in _unmeasured(candidate):
        (against if required else notes).append(missing)
    if champion is not None:
        for name in candidate.settings.distances:
            against += _compared(candidate.evaluation, champion, name, candidate.settings)
    if against:
        return Decision(promoted=False, reasons=tuple(against), notes=tuple(notes))
    why = "there is no champion to compare it with" if champion is None else "it is not worse than the champion"
    return Decision(promoted=True, reasons=(f"All gates pass, and {why}.",), notes=tuple(notes))


def _of_the_data(candidate: Evidence) -> list[str]:
    against = []
    if candidate.taken_down:
        shown = ", ".join(candidate.taken_down[:3]) + (", ..." if len(candidate.taken_down) > 3 else "")
        against.append(
            f"It learned from {len(candidate.taken_down)} sources that were taken down ({shown}), and 0 are wanted: "
            f"train it again."
        )
    if candidate.drawn:
        against.append(f"No video can be drawn from the registry's bytes: {candidate.drawn}")
    if candidate.proof is not None and not candidate.proof[1]:
        against.append(f"Its training does not resume: {candidate.proof[0]}")
    return against


def _absolute(evaluation: Evaluation, settings: GateSettings) -> list[str]:
    against = []
    if not evaluation.held_out:
        against.append("Its held-out objective is missing or not finite, and a finite one is wanted.")
    for aspect, least in settings.wanted.items() if evaluation.truth is not None else ():
        share = _share(evaluation.truth, aspect)
        if share < least:
            against.append(f"The {aspect} is right in {share:.0%} of the clips, and at least {least:.0%} is wanted.")
    ratio = evaluation.distance(_NEAREST)
    if ratio is not None and ratio.value < settings.min_nearest_ratio:
        against.append(
            f"Its videos are {ratio.value:.2f} times as far from the clips that it learned from as held-out clips are, "
            f"and at least {settings.min_nearest_ratio:.2f} is wanted: it repeats what it saw."
        )
    return against


def _share(truth: Any, aspect: str) -> float:
    return getattr(truth, aspect).value or 0.0


def _unmeasured(candidate: Evidence) -> list[tuple[str, bool]]:
    """What is missing, in sentences, and whether it must not be."""
    evaluation, settings = candidate.evaluation, candidate.settings
    missing = []
    for name in settings.distances:
        if evaluation.distance(name) is None:
            missing.append((f"Its distance {name} was not measured.", "distances" in settings.required))
    if evaluation.distance(_NEAREST) is None:
        missing.append(("Whether it repeats what it saw was not measured.", "nearest_ratio" in settings.required))
    if candidate.proof is None:
        sentence = "That its training resumes was not proved: vidgen train --prove-resume does it."
        missing.append((sentence, "resume_proof" in settings.required))
    return missing


def _compared(candidate: Evaluation, champion: Evaluation, name: str, settings: GateSettings) -> list[str]:
    ours, theirs = candidate.distance(name), champion.distance(name)
    if theirs is None:
        return []
    if ours is None or (ours.protocol, ours.name) != (theirs.protocol, theirs.name):
        told = "none" if ours is None else _protocol(ours)
        return [
            f"Its distance {name} was not measured by the champion's protocol, so the two cannot be compared: it has "
            f"{told}, and {_protocol(theirs)} is wanted."
        ]
    if ours.n < settings.min_samples:
        return [f"Its distance {name} is over {ours.n} videos, and at least {settings.min_samples} are wanted."]
    if ours.low > theirs.high and ours.value > settings.worst_ratio * theirs.value:
        return [
            f"Its distance {ours.value:.3f} ({ours.low:.3f} to {ours.high:.3f}) is worse than the champion's "
            f"{theirs.value:.3f} ({theirs.low:.3f} to {theirs.high:.3f})."
        ]
    return []


def _protocol(distance: Measurement) -> str:
    return f"{distance.name} by {distance.protocol}"
