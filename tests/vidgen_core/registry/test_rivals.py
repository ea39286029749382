"""Laws of a champion beside a candidate: on other clips it is measured again, on the same ones it is not."""

import json
from functools import cache

import numpy as np
import pytest

from tests.vidgen_core.registry.small import SHAPE, evaluation
from vidgen_core.applications.generator import Generator
from vidgen_core.evaluation.evaluate import evaluate
from vidgen_core.evaluation.set_metrics import Material
from vidgen_core.evaluation.settings import EvaluationSettings
from vidgen_core.registry.gate import Evidence, Rival
from vidgen_core.registry.journal import read
from vidgen_core.registry.models import EVIDENCE_TAG, SHAPE_TAG, evidence_of, fetch, register, version_of
from vidgen_core.registry.promotion import block, promote, rival_of
from vidgen_core.registry.rivals import meet
from vidgen_core.registry.settings import GateSettings
from vidgen_core.registry.tracking import client

SETTINGS = EvaluationSettings(samples=12, truth_prompts=2)
# Clips of the reference, by their numbers: before new videos came, and as many after that.
OLD, NEW = range(10), range(5, 15)


def clips(numbers):
    """Bright squares that move, each elsewhere, [N, *SHAPE, 3]."""
    made = np.full((len(numbers), *SHAPE, 3), 60, np.uint8)
    for clip, number in zip(made, numbers, strict=True):
        rng = np.random.default_rng(number)
        x, y, color = rng.integers(1, 4), rng.integers(1, 10), rng.integers(120, 255, 3)
        for time, frame in enumerate(clip):
            frame[y : y + 4, x + time : x + time + 4] = color
    return made


@cache
def material(numbers):
    return Material(clips(numbers), ["a film"] * len(numbers), clips(range(100, 112)), "8")


def measured(generator, reference, model="candidate"):
    return evaluate(generator, reference, SETTINGS, identity=(model, "r"), held_out={"loss": 1.0})


@cache
def of_candidate(maker, numbers):
    return measured(maker, material(numbers))


class Maker:
    """Makes given clips."""

    def __init__(self, made):
        self.made = made

    def videos(self, prompts, *, seed=0):
        return self.made[: len(prompts)]


GOOD = Maker(clips(range(200, 212)))
BAD = Maker(np.zeros((12, *SHAPE, 3), np.uint8))
BAD.made[:, ::2] = 255


@pytest.fixture(scope="module")
def own(generators):
    """The champion's own evaluation, on ten clips."""
    folder, model = generators(0)
    return measured(Generator.load(folder), material(OLD), model)[0]


@pytest.fixture
def met(registry, generators, own, tmp_path, monkeypatch, request):
    """A champion that was measured on ten clips; what meets it next, and the videos that it was asked for."""
    folder, model = generators(0)
    name = request.node.name.replace("[", "-").strip("]")
    champion = register(registry.run, name, folder, model=model, tags={SHAPE_TAG: "x".join(map(str, SHAPE))})
    assert promote(registry.uri, champion, Evidence(evaluation=own, drawn=""), who="t").promoted
    asked = []
    videos = Generator.videos

    def counted(generator, prompts, **told):
        asked.append(len(prompts))
        return videos(generator, prompts, **told)

    monkeypatch.setattr(Generator, "videos", counted)

    def next_one(candidate, numbers):
        """Its evidence, once it met the champion."""
        (ours, shown), reference = of_candidate(candidate, numbers), material(numbers)
        found = meet(
            registry.uri, name, tmp_path, ours=ours, draw=shown.draws[-1].first(3), settings=GateSettings(),
            measure=lambda theirs, version: measured(theirs, reference, version.model),
        )  # fmt: skip
        return found, Evidence(evaluation=ours, drawn="", rival=found.rival)

    next_one.champion, next_one.asked, next_one.folder = champion, asked, folder
    return next_one


def candidate_of(registry, met, number=0):
    """Another version of the same model, of which nothing but its number matters here."""
    return register(registry.run, met.champion.name, met.folder, model=f"candidate{number}", tags={})


def test_on_the_same_clips_the_champion_is_not_measured_again(met):
    found, evidence = met(GOOD, OLD)
    assert met.asked == [3]  # to look at
    assert len(found.clips) == 3
    assert (evidence.rival.evaluation, evidence.rival.notes) == (None, ())


def test_on_other_clips_the_better_one_is_promoted_and_the_worse_one_refused(registry, met):
    found, better = met(GOOD, NEW)
    assert met.asked == [SETTINGS.samples]
    direct, shown = measured(Generator.load(met.folder), material(NEW), met.champion.model)
    assert better.rival.evaluation == direct.model_copy(
        update={"seconds_per_clip": better.rival.evaluation.seconds_per_clip}
    )
    assert np.array_equal(found.clips, shown.draws[-1].clips[:3])
    worse = better.model_copy(update={"evaluation": of_candidate(BAD, NEW)[0]})
    (theirs,) = (one for one in direct.distances if one.key == "rfd/random-conv64")
    refused = promote(registry.uri, candidate_of(registry, met, 1), worse, who="t")
    assert not refused.promoted
    assert f"is worse than the champion's {theirs.value:.3f}" in refused.reasons[0]
    version = candidate_of(registry, met, 2)
    decision = promote(registry.uri, version, better, who="t")
    assert decision.promoted
    assert any("was measured again with this candidate's clips" in note for note in decision.notes)
    entry = read(client(registry.uri), version.name)[-1]
    kept = version_of(registry.uri, f"{version.name}/{version.version}")
    assert entry.evidence["compared_with"] == str(met.champion.version)
    assert entry.evidence["compared_by"] == kept.tags[EVIDENCE_TAG]
    assert set(decision.notes) <= set(entry.reasons)
    assert evidence_of(registry.uri, kept) == better


@pytest.fixture
def rivals(registry, generators, request):
    """A champion and a candidate by another protocol, which says that it met a model so and so."""
    folder, name = generators(0)[0], request.node.name
    champion, version = (register(registry.run, name, folder, model=f"{name}{one}", tags={}) for one in range(2))
    rmmd = evaluation(1.0).distances[0].model_copy(update={"name": "rmmd/n64"})
    own = evaluation(distances=(*evaluation(1.0).distances, rmmd))
    assert promote(registry.uri, champion, Evidence(evaluation=own, drawn=""), who="t").promoted
    again = Rival(version="it", model=champion.model, evaluation=evaluation(1.0, protocol="q"), notes=("A note.",))
    return champion, version, Evidence(evaluation=evaluation(1.0, protocol="q"), drawn="", rival=again)


def test_what_was_measured_of_another_champion_does_not_count(registry, rivals):
    champion, version, evidence = rivals
    other = evidence.model_copy(update={"rival": evidence.rival.model_copy(update={"model": "another"})})
    refused = promote(registry.uri, version, other, who="t")
    assert "cannot be compared" in refused.reasons[0]
    assert "A note." not in refused.notes
    decision = promote(registry.uri, version, evidence, who="t")
    assert decision.promoted
    assert "A note." in decision.notes
    keys = [version_of(registry.uri, f"{one.name}/{one.version}").tags[EVIDENCE_TAG] for one in (champion, version)]
    assert [one.evidence["compared_by"] for one in read(client(registry.uri), version.name)] == ["", *keys]


def test_a_distance_that_only_the_champion_has_is_still_asked_for(registry, rivals):
    _, version, evidence = rivals
    asked = evidence.model_copy(update={"settings": GateSettings(distances=("rfd", "rmmd"))})
    (reason,) = promote(registry.uri, version, asked, who="t").reasons
    assert "distance rmmd was not measured by the champion's" in reason


def test_a_champion_that_cannot_be_opened_is_a_note_and_the_rules_hold(registry, met, tmp_path):
    folder = fetch(registry.uri, f"{met.champion.name}/{met.champion.version}", tmp_path)
    card = json.loads((folder / "generator.json").read_text())
    (folder / "generator.json").write_text(json.dumps(card | {"config": {"of": "another version"}}))
    found, evidence = met(GOOD, NEW)
    assert found.clips is None
    assert "cannot be drawn from" in found.told
    assert "was written by another version of vidgen" in found.told
    decision = promote(registry.uri, candidate_of(registry, met), evidence, who="t")
    assert "cannot be compared" in decision.reasons[0]
    assert found.told in decision.notes


def test_files_that_the_registry_lost_are_a_note(registry, met):
    (place,) = (registry.folder / "mlartifacts" / "models").glob(f"{met.champion.logged_model}/artifacts/generator")
    place.rename(place.with_name("lost"))
    found, _ = met(GOOD, NEW)
    assert found.clips is None
    assert "cannot be read" in found.told


def test_one_of_another_shape_is_not_measured_on_clips_of_this_one(met, monkeypatch):
    monkeypatch.setattr(Generator, "pixels", (9, 16, 32))
    found, _ = met(GOOD, NEW)
    assert met.asked == []
    assert "Got '9 frames of 32 x 16'. Allowed: 9 frames of 16 x 16" in found.told


def test_a_blocked_champion_has_nobody_or_the_one_before_it_for_it(registry, met, generators):
    folder, model = generators(1)
    second = register(registry.run, met.champion.name, folder, model=model, tags={})
    better = of_candidate(GOOD, OLD)[0]
    assert promote(registry.uri, second, Evidence(evaluation=better, drawn=""), who="t").promoted
    block(registry.uri, [second], "it saw a.mp4", who="t")
    found, evidence = met(GOOD, NEW)
    assert found.version.version == met.champion.version
    assert evidence.rival.notes[0] == (
        f"The champion, version {second.version}, must not be used, so version {met.champion.version} stands for it: "
        f"it saw a.mp4"
    )
    block(registry.uri, [met.champion], "it saw a.mp4", who="t")
    found, evidence = met(GOOD, NEW)
    assert "there is none before it" in found.told
    assert evidence.rival is None
    assert rival_of(registry.uri, "nobody") == (None, "There is no champion yet.")
