"""The gate: may this candidate take the champion's place? Reasons in sentences, in both cases."""

import json
from collections.abc import Sequence
from typing import Any

from vidgen_core.evaluation.evaluate import Evaluation
from vidgen_core.evaluation.measurements import Measurement, compared
from vidgen_core.frozen import Frozen
from vidgen_core.licenses import fits
from vidgen_core.registry.settings import GateSettings

__all__ = ["Decision", "Evidence", "Rival", "decide", "incomparable"]

# How the name of the nearest-training-clip ratio begins, among the measurements of an evaluation.
_NEAREST = "nearest"


class Rival(Frozen):
    """Whom a candidate was compared with, as it met that version.

    Args:
        version: Its name, as people say it.
        model: Its digest.
        evaluation: What was measured of it again, as the candidate was; None where its own evaluation compares, or
            where it could not be measured.
        notes: What there is to say of it, in sentences.

    """

    version: str
    model: str
    evaluation: Evaluation | None = None
    notes: tuple[str, ...] = ()


class Evidence(Frozen):
    """All that is known of a candidate when the gate decides; it is kept with the version.

    Args:
        evaluation: What was measured.
        settings: What was asked for.
        run: The run that measured it.
        proof: The proof that its training resumes: what was found, in a sentence, and whether it passed; None where
            nobody asked for one.
        taken_down: Sources that it learned from and that were taken down since.
        licenses: License -> clips of its data release that have it, when the gate decided; None where nobody counted.
        drawn: Why no video can be drawn from the registry's bytes, "" where one could, None where nobody tried.
        rival: The champion of that time; None where there was none.

    """

    evaluation: Evaluation
    settings: GateSettings = GateSettings()
    run: str = ""
    proof: tuple[str, bool] | None = None
    taken_down: tuple[str, ...] = ()
    licenses: dict[str, int] | None = None
    drawn: str | None = None
    rival: Rival | None = None


class Decision(Frozen):
    """Promoted or not, and why.

    Args:
        reasons: Every reason against the candidate; or the one for it.
        notes: In sentences, what was not asked because it was not measured, and what is to be known of the comparison.

    """

    promoted: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()


def decide(candidate: Evidence, champion: Sequence[Evaluation], known: Sequence[str] = ()) -> Decision:
    """Every reason against the candidate, or why there is none.

    Args:
        candidate: All that is known of it.
        champion: Evaluations of the champion; of each distance the first that has it counts. Empty without a champion.
        known: What there is to say of the champion, in sentences.

    """
    against, notes = _of_the_data(candidate), [*known]
    against += _absolute(candidate.evaluation, candidate.settings)
    for missing, required in _unmeasured(candidate):
        (against if required else notes).append(missing)
    for name in candidate.settings.distances:
        theirs = next((found for one in champion if (found := one.distance(name)) is not None), None)
        if theirs is not None:
            against += _compared(candidate.evaluation.distance(name), theirs, name, candidate.settings)
    if against:
        return Decision(promoted=False, reasons=tuple(against), notes=tuple(notes))
    why = "it is not worse than the champion" if champion else "there is no champion to compare it with"
    return Decision(promoted=True, reasons=(f"All gates pass, and {why}.",), notes=tuple(notes))


def incomparable(candidate: Evaluation, champion: Evaluation | None, settings: GateSettings) -> str:
    """Why the champion's own evaluation does not compare with the candidate's, in half a sentence; "" where it does."""
    for name in settings.distances:
        ours = candidate.distance(name)
        theirs = None if champion is None else champion.distance(name)
        if ours is None:
            continue
        if theirs is None:
            return f"its distance {name} was not kept"
        if not ours.compares_with(theirs):
            return f"it has {_protocol(theirs)}, and {_protocol(ours)} is wanted"
    return ""


def _of_the_data(candidate: Evidence) -> list[str]:
    against = []
    if candidate.taken_down:
        shown = ", ".join(candidate.taken_down[:3]) + (", ..." if len(candidate.taken_down) > 3 else "")
        against.append(
            f"It learned from {len(candidate.taken_down)} sources that were taken down ({shown}), and 0 are wanted: "
            f"train it again."
        )
    against += _of_licenses(candidate)
    if candidate.drawn:
        against.append(f"No video can be drawn from the registry's bytes: {candidate.drawn}")
    if candidate.proof is not None and not candidate.proof[1]:
        against.append(f"Its training does not resume: {candidate.proof[0]}")
    return against


def _of_licenses(candidate: Evidence) -> list[str]:
    wanted = candidate.settings.licenses
    if not wanted:
        return []
    asked = " or ".join(wanted)
    if candidate.licenses is None:
        return [f"Which licenses the clips of its data release have was not counted, and {asked} is wanted."]
    others = {name: count for name, count in candidate.licenses.items() if not fits(name, wanted)}
    if not others:
        return []
    told = ", ".join(f"{name}: {count}" for name, count in others.items())
    return [
        f"Its data release has {sum(others.values())} of {sum(candidate.licenses.values())} clips of other or unknown "
        f"license ({told}), and {asked} is wanted: state licenses beside the videos, prepare and release again, or "
        f"train without these clips, with data.select.licenses={json.dumps(wanted)}."
    ]


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
    if settings.wanted and evaluation.truth is None:
        why = evaluation.not_run.get("truth", "nobody asked for them")
        sentence = f"The exact checks ({', '.join(settings.wanted)}) were not run: {why}."
        missing.append((sentence, "truth" in settings.required))
    if candidate.proof is None:
        sentence = "That its training resumes was not proved: vidgen train --prove-resume does it."
        missing.append((sentence, "resume_proof" in settings.required))
    return missing


def _compared(ours: Measurement | None, theirs: Measurement, name: str, settings: GateSettings) -> list[str]:
    if ours is None or not ours.compares_with(theirs):
        told = "none" if ours is None else _protocol(ours)
        return [
            f"Its distance {name} was not measured by the champion's protocol, so the two cannot be compared: it has "
            f"{told}, and {_protocol(theirs)} is wanted."
        ]
    if ours.n < settings.min_samples:
        return [f"Its distance {name} is over {ours.n} videos, and at least {settings.min_samples} are wanted."]
    if compared(ours, theirs) == "worse" and ours.times_worse(theirs) > settings.worst_ratio:
        return [
            f"Its distance {name} {ours.value:.3f} ({ours.low:.3f} to {ours.high:.3f}) is worse than the champion's "
            f"{theirs.value:.3f} ({theirs.low:.3f} to {theirs.high:.3f})."
        ]
    return []


def _protocol(distance: Measurement) -> str:
    return f"{distance.name} by {distance.protocol}"
