"""Laws of the gate: each reason against a candidate is a sentence with what it is and what is wanted."""

import pytest

from tests.vidgen_core.registry.small import evaluation, evidence
from vidgen_core.evaluation.measurements import Measurement
from vidgen_core.evaluation.truth import Score, Share
from vidgen_core.registry.gate import Evidence, decide
from vidgen_core.registry.settings import GateSettings


def at(value, better, name="rfd/n64"):
    """An evaluation with one set metric, whose floor is 1."""
    one = Measurement(name=name, protocol="p", value=value, low=value - 0.1, high=value + 0.1, floor=1.0, n=64,
                      better=better)  # fmt: skip
    return evaluation(distances=(one,))


def nearest(value):
    return Measurement(name="nearest_training/n64", protocol="p", value=value, low=value, high=value, floor=1.0, n=64)


def with_nearest(value):
    return evaluation(distances=(*evaluation().distances, nearest(value)))


def truth(share):
    names = ("color", "shape", "direction", "one_shape", "straight")
    return Score(**dict.fromkeys(names, Share.of(round(share * 100), 100)), foreign=0)


FREE = GateSettings(licenses=("CC0-1.0", "CC-BY-?.0"))
ASKING = GateSettings(min_shape=0.8, min_nearest_ratio=0.5)
REFUSED = {
    "a worse distance": (evidence(2.0), "2.000 (1.900 to 2.100) is worse than the champion's 1.000"),
    "another protocol": (evidence(evaluation=evaluation(0.1, protocol="q")), "it has rfd/n64 by q, and rfd/n64 by p"),
    "another count": (evidence(evaluation=evaluation(0.1, n=63)), "it has rfd/n63 by p, and rfd/n64 by p is wanted"),
    "too few videos": (evidence(settings=GateSettings(min_samples=65)), "over 64 videos, and at least 65 are wanted"),
    "no distance": (evidence(evaluation=evaluation(distances=())), "it has none, and rfd/n64 by p is wanted"),
    "no objective": (evidence(evaluation=evaluation(held_out={})), "missing or not finite, and a finite one is wanted"),
    "wrong shapes": (
        evidence(evaluation=evaluation(truth=truth(0.7)), settings=ASKING), "right in 70% of the clips, and at least",
    ),
    "unknown shapes": (
        evidence(settings=GateSettings(min_shape=0.8, required=("truth",))), "exact checks (shape) were not run:",
    ),
    "memorization": (
        evidence(evaluation=with_nearest(0.3), settings=ASKING), "are 0.30 times as far from the clips that it learned",
    ),
    "unknown memorization": (
        evidence(settings=GateSettings(required=("nearest_ratio",))), "repeats what it saw was not measured",
    ),
    "no proof": (evidence(settings=GateSettings(required=("resume_proof",))), "vidgen train --prove-resume does it"),
    "a failed proof": (evidence(proof=("1 of 2 went on exactly.", False)), "Its training does not resume: 1 of 2"),
    "a takedown": (evidence(taken_down=("abc",)), "1 sources that were taken down (abc), and 0 are wanted"),
    "other licenses": (
        evidence(settings=FREE, licenses={"CC0-1.0": 9, "CC-BY-NC-4.0": 2, "unknown": 1}),
        "has 3 of 12 clips of other or unknown license (CC-BY-NC-4.0: 2, unknown: 1), and CC-BY-?.0 or CC0-1.0 is "
        "wanted: state licenses beside the videos",
    ),
    "no count of licenses": (evidence(settings=FREE), "was not counted, and CC-BY-?.0 or CC0-1.0 is wanted"),
    "a broken version": (evidence(drawn="Its values are not all finite."), "registry's bytes: Its values are not all"),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_a_refusal_says_what_it_is_and_what_is_wanted(why):
    candidate, sentence = REFUSED[why]
    decision = decide(candidate, [evaluation(1.0)])
    assert not decision.promoted
    (reason,) = decision.reasons
    assert sentence in reason


@pytest.mark.parametrize("better,champion,worse", [("lower", 1.0, 2.0), ("higher", 2.0, 1.0), ("real", 1.5, 3.0)])
def test_worse_is_told_by_which_way_better_lies_and_by_how_many_times(better, champion, worse):
    def promoted(value, than, ratio=1.25):
        told = evidence(evaluation=at(value, better), settings=GateSettings(worst_ratio=ratio))
        return decide(told, [at(than, better)]).promoted

    assert promoted(champion, worse)
    assert promoted(champion, champion)
    assert not promoted(worse, champion)
    assert promoted(worse, champion, ratio=5.0)


def test_wanted_licenses_pass_and_a_gate_that_asks_for_none_is_the_gate_of_old():
    some = {"CC0-1.0": 1, "CC-BY-4.0 OR LicenseRef-Own": 2}
    assert decide(evidence(settings=FREE, licenses=some), ()).promoted
    assert decide(evidence(licenses={"unknown": 3}), ()).promoted
    assert "licenses" not in GateSettings().model_dump()
    assert Evidence.model_validate_json(evidence(settings=FREE, licenses=some).model_dump_json()).licenses == some


def test_all_reasons_are_told_at_once():
    assert len(decide(evidence(2.0, taken_down=("a",), proof=("no", False)), [evaluation(1.0)]).reasons) == 3


def test_overlapping_intervals_are_not_worse_and_what_was_not_measured_is_noted():
    decision = decide(evidence(1.15), [evaluation(1.0)])
    assert decision.promoted
    assert decision.reasons == ("All gates pass, and it is not worse than the champion.",)
    assert len(decision.notes) == 2
    measured = with_nearest(0.9).model_copy(update={"truth": truth(0.9)})
    proved = decide(evidence(evaluation=measured, proof=("2 of 2", True), settings=ASKING), ())
    assert proved.promoted
    assert proved.notes == ()
