"""From the sidecars to the gate: a version of unlicensed clips is refused, and passes once their license is stated."""

import pytest

from data_prep.prepare import prepare
from data_prep.samples import make
from data_prep.sources import list_files
from flows.commands.lineage import lineage
from flows.home import Home
from flows.recipes.recipe import load
from flows.spec import Spec, StageResult
from flows.stage import write_value
from flows.stages.release import _evidence
from flows.stages.train import open_tracker
from tests.data_prep.runners import InProcess
from tests.vidgen_core.registry.conftest import new_registry
from tests.vidgen_core.registry.small import SHAPE, evaluation, generator_folder
from vidgen_core.registry.models import SHAPE_TAG, evidence_of, register, version_of
from vidgen_core.registry.promotion import promote


@pytest.fixture
def spec(empty_registry, tmp_path):
    home, videos = Home.open(tmp_path / "home"), tmp_path / "videos"
    new_registry(empty_registry, home.root)
    make(videos, count=2)
    recipe = load("shapes.tiny", ['gate.licenses=["CC-BY-*"]', "data.select.min_motion=null"])
    return Spec(stage="release", recipe=recipe, videos=videos, home_dir=home.root)


def test_a_version_of_unlicensed_clips_is_refused_until_their_license_is_stated(spec):
    tables, uri = spec.home.tables(), spec.home.mlflow_uri

    def asked():
        """The gate's decision, and the version then."""
        prepare(spec.videos, tables, spec.recipe.data, InProcess())
        decision = promote(uri, version, _evidence(spec, evaluation(), version), who="t")
        return decision, version_of(uri, f"{version.name}/{version.version}")

    first, second = list_files(spec.videos)
    first.with_suffix(".info.json").write_text('{"license": "CC BY 4.0"}')
    prepare(spec.videos, tables, spec.recipe.data, InProcess())
    release = tables.release(["clips", "captions"], beside=["rights"])
    write_value(spec.home.releases_dir / f"{release.digest}.json", release)
    folder = spec.home.training_dir / "0"
    model = generator_folder(folder, seed=0)
    for stage, facts in (("train", {"model_dir": str(folder)}), ("evaluate", {})):
        write_value(spec.result_file(stage), StageResult(stage=stage, facts=facts))
    tags = {"vidgen.release": release.digest, SHAPE_TAG: "x".join(map(str, SHAPE))}
    version = register(open_tracker(spec), "shapes", folder, model=model, tags=tags)

    refused, then = asked()
    assert not refused.promoted
    (reason,) = refused.reasons
    licenses = evidence_of(uri, then).licenses
    assert set(licenses) == {"CC-BY-4.0", "unknown"}
    assert f"(unknown: {licenses['unknown']}), and CC-BY-* is wanted" in reason
    told = lineage(spec.home, "shapes@challenger", as_json=False)
    assert f"CC-BY-4.0: {licenses['CC-BY-4.0']} clips" in told
    assert reason[:60] in told
    second.with_suffix(".info.json").write_text('{"license": "http://creativecommons.org/licenses/by/3.0/"}')
    passed, then = asked()
    assert passed.promoted
    counted = evidence_of(uri, then).licenses
    assert counted == {"CC-BY-4.0": licenses["CC-BY-4.0"], "CC-BY-3.0": licenses["unknown"]}
    assert "CC-BY-3.0" in lineage(spec.home, "shapes@champion", as_json=True)
