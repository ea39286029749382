"""The stage `evaluate` on other clips: the champion is measured again, and what it learned from is told."""

from types import SimpleNamespace

import pytest

from data_prep.prepare import prepare
from data_prep.samples import make
from flows.home import Home
from flows.recipes.recipe import load
from flows.spec import Spec, StageResult
from flows.stage import write_value
from flows.stages.evaluate import _Real, _rival, run
from flows.stages.train import open_tracker
from tests.data_prep.runners import InProcess
from tests.vidgen_core.registry.conftest import new_registry
from tests.vidgen_core.registry.small import generator_folder, promoted
from vidgen_core.evaluation.evaluate import Evaluation
from vidgen_core.registry.gate import Evidence, Rival
from vidgen_core.registry.models import register, version_of
from vidgen_core.registry.promotion import promote
from vidgen_core.registry.rivals import Met

TINY = ["data.held_out_share=0.5", "evaluation.truth_prompts=2"]


@pytest.fixture
def spec(empty_registry, tmp_path):
    home, videos = Home.open(tmp_path / "home"), tmp_path / "videos"
    new_registry(empty_registry, home.root)
    make(videos, count=5)
    return Spec(stage="evaluate", recipe=load("shapes.tiny", TINY), videos=videos, home_dir=home.root)


def released(spec):
    """The digest of a data release of all videos there are, and its clips."""
    tables = spec.home.tables()
    prepare(spec.videos, tables, spec.recipe.data, InProcess())
    release = tables.release(["clips", "captions"])
    write_value(spec.home.releases_dir / f"{release.digest}.json", release)
    return release, tables.read("clips", ["source_id", "split"]).to_pylist()


def trained(spec, release, number):
    """A generator that says it was trained on a release; its facts as the stages tell them."""
    folder = spec.home.training_dir / str(number)
    model = generator_folder(folder, seed=number, shape=(9, 32, 32))
    facts = {"model_dir": str(folder), "model": model, "held_out": {"loss": 1.0}, "release": release.digest}
    write_value(spec.result_file("train"), StageResult(stage="train", facts=facts))
    return folder, model


def evaluated(spec, release, number):
    """A version that says so, and the evidence that follows from what the stage answers."""
    folder, model = trained(spec, release, number)
    facts = run(spec, lambda *_: None).facts
    rival = facts["rival"] and Rival.model_validate(facts["rival"])
    result = Evaluation.model_validate_json((spec.run_dir / "evaluation.json").read_text())
    tracker = open_tracker(spec)
    tags = {"vidgen.release": release.digest}
    version = register(tracker, spec.recipe.model, folder, model=model, tags=tags)
    return version, Evidence(evaluation=result, drawn="", rival=rival)


def test_new_clips_let_the_champion_be_measured_again_and_what_it_learned_from_is_told(spec):
    before, clips = released(spec)
    learned = {clip["source_id"] for clip in clips if clip["split"] == "train"}
    folder, model = trained(spec, before, 0)
    champion = register(open_tracker(spec), "shapes", folder, model=model, tags={"vidgen.release": before.digest})
    assert promoted(spec.home.mlflow_uri, champion).promoted
    # What the champion learned from is held out now.
    spec = spec.model_copy(update={"recipe": load("shapes.tiny", [*TINY, "data.held_out_share=0.9"])})
    after, clips = released(spec)
    held = {clip["source_id"] for clip in clips if clip["split"] == "held_out"}
    version, evidence = evaluated(spec, after, 1)
    again, leak = evidence.rival.notes
    assert "was measured again with this candidate's clips" in again
    assert leak.startswith(f"shapes version 1 learned from {len(learned & held)} of the {len(held)} sources")
    decision = promote(spec.home.mlflow_uri, version, evidence, who="t")
    assert {again, leak} <= set(decision.notes)
    assert not any("cannot be compared" in reason for reason in decision.reasons)

    def told(sources, kept_apart=True):
        """What is told of the champion beside a reference from such sources."""
        champion = version_of(spec.home.mlflow_uri, "shapes/1")
        met = Met("it", evidence.rival.model_copy(update={"notes": ()}), champion)
        return _rival(spec, met, _Real(SimpleNamespace(kept_apart=kept_apart), sources)).notes

    assert told(held - learned) == told(held, kept_apart=False) == ()
    (spec.home.releases_dir / f"{before.digest}.json").unlink()
    assert "cannot be told" in told(held)[0]
