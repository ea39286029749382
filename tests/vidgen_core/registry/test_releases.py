"""Commands after a release: back to the previous champion, and into another home."""

import pytest

from flows.commands.lineage import lineage
from flows.commands.prove import kept_proof
from flows.commands.release import copy_release, roll_back
from flows.home import Home, registry_at
from flows.stage import write_value
from tests.vidgen_core.registry.conftest import new_registry
from tests.vidgen_core.registry.small import promoted
from vidgen_core.errors import VidgenError
from vidgen_core.registry.models import SHAPE_TAG, register, version_of
from vidgen_core.training.prove import Case, Proof


def test_rollback_and_copy_say_what_they_did(empty_registry, generators, tmp_path):
    home, production = Home.open(tmp_path / "development"), Home.open(tmp_path / "production")
    run, _ = (new_registry(empty_registry, one.root).run for one in (home, production))
    for number in range(2):
        folder, model = generators(number)
        version = register(run, "shapes", folder, model=model, tags={SHAPE_TAG: "9x16x16"})
        promoted(home.mlflow_uri, version)
    assert roll_back(home, "shapes") == "shapes version 1 is the champion again, instead of version 2."
    with pytest.raises(VidgenError, match="no previous champion"):
        roll_back(home, "shapes")
    told = copy_release(home, "shapes", str(production.root))
    assert told.startswith("shapes version 1 @champion, with the digest ")
    uri, _ = registry_at(str(production.root))
    assert version_of(uri, "shapes@champion").model == version_of(home.mlflow_uri, "shapes/1").model
    assert "rollback by" in lineage(home, "shapes@champion", as_json=False)


def test_a_registry_is_a_home_a_database_or_a_server(tmp_path):
    assert registry_at("http://h:5000") == ("http://h:5000", None)
    assert registry_at(f"sqlite:///{tmp_path}/a.db") == (f"sqlite:///{tmp_path}/a.db", tmp_path / "mlartifacts")


def test_a_proof_that_was_kept_is_read_back(tmp_path):
    home = Home.open(tmp_path)
    case = Case(workers=(1, 2), resumed_from=6, samples_equal=True, losses_equal=True, weights_equal=False,
                loss_error=0.0, weight_error=0.1, passed=False)  # fmt: skip
    proof = Proof(steps=12, killed_at=7, digest="d", cases=(case,), notes=())
    assert kept_proof(home, "job") is None
    write_value(home.training_dir / "job.proof.json", proof)
    assert kept_proof(home, "job") == proof
    assert proof.sentence == "of 1 runs killed after step 7 of 12, 0 went on as if nothing had happened."
