"""The gate: may this candidate take the champion's place? Reasons in sentences, in both cases."""

import math

from vidgen_core.evaluation.evaluate import Evaluation
from vidgen_core.frozen import Frozen
from vidgen_core.registry.settings import GateSettings

__all__ = ["Decision", "decide"]


class Decision(Frozen):
    """Promoted or not, and why."""

    promoted: bool
    reasons: tuple[str, ...]


def decide(candidate: Evaluation, champion: Evaluation | None, settings: GateSettings) -> Decision:
    """Every reason against the candidate, or why there is none."""
    against = [*_absolute(candidate, settings), *([] if champion is None else _relative(candidate, champion, settings))]
    if against:
        return Decision(promoted=False, reasons=tuple(against))
    why = "there is no champion yet" if champion is None else "it is not worse than the champion"
    return Decision(promoted=True, reasons=(f"All gates pass, and {why}.",))


def _absolute(candidate: Evaluation, settings: GateSettings) -> list[str]:
    against = []
    if not candidate.held_out or not all(math.isfinite(value) for value in candidate.held_out.values()):
        against.append("Its held-out objective is missing or not finite.")
    if candidate.truth is not None:
        for aspect, least in settings.wanted.items():
            share = getattr(candidate.truth, aspect).value or 0.0
            if share < least:
                against.append(
                    f"The {aspect} is right in {share:.0%} of the clips, and at least {least:.0%} is wanted."
                )
    return against


def _relative(candidate: Evaluation, champion: Evaluation, settings: GateSettings) -> list[str]:
    ours, theirs = candidate.distance("rfd"), champion.distance("rfd")
    if theirs is None:
        return []
    if ours is None or ours.protocol != theirs.protocol or ours.name != theirs.name:
        return ["Its distance was not measured by the champion's protocol, so the two cannot be compared."]
    if ours.low > theirs.high and ours.value > settings.worst_ratio * theirs.value:
        return [
            f"Its distance {ours.value:.3f} ({ours.low:.3f} to {ours.high:.3f}) is worse than the champion's "
            f"{theirs.value:.3f} ({theirs.low:.3f} to {theirs.high:.3f})."
        ]
    return []
