"""The registry's laws hold on an MLflow server too, where machines share nothing but its address."""

import shutil

import pytest

from tests.vidgen_core.registry.servers import mlflow_started
from tests.vidgen_core.registry.small import promote_at, promoted
from tests.vidgen_core.registry.test_journal import PROCESSES, consistent
from vidgen_core.applications.generator import digest
from vidgen_core.registry.copies import copy_version
from vidgen_core.registry.journal import read
from vidgen_core.registry.models import SHAPE_TAG, fetch, register
from vidgen_core.registry.promotion import block, rollback
from vidgen_core.registry.tracking import Tracker, client

TAGS = {SHAPE_TAG: "9x16x16"}


@pytest.mark.services
def test_promotion_rollback_recall_and_copy_work_on_a_server(empty_registry, registry, generators, tmp_path):
    shutil.copy(empty_registry, tmp_path / "mlflow.db")
    arguments = ["server", "--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}", "--artifacts-destination",
                 str(tmp_path / "artifacts"), "--workers", "1"]  # fmt: skip
    with mlflow_started(tmp_path / "server.log", "health", arguments) as (uri, _):
        run, store = Tracker.open(uri, experiment="tests", run_key="run"), client(uri)
        versions = [register(run, "shapes", generators(n)[0], model=generators(n)[1], tags=TAGS) for n in range(2)]
        gate = PROCESSES.Event()
        children = [
            PROCESSES.Process(target=promote_at, args=(uri, one.model_dump_json(), gate, "t")) for one in versions
        ]
        for child in children:
            child.start()
        gate.set()
        for child in children:
            child.join(120)
            assert child.exitcode == 0
        first, second = consistent(store, "shapes").champions
        assert rollback(uri, "shapes", who="t") == (second, first)
        assert digest(fetch(uri, "shapes@champion", tmp_path / "cache")) == generators(first - 1)[1]
        block(uri, versions, "it saw a.mp4", who="t")
        assert consistent(store, "shapes").aliases == {}
        folder, model = generators(2)
        ours = register(registry.run, "shapes", folder, model=model, tags=TAGS)
        promoted(registry.uri, ours)
        copy, decision = copy_version(registry.uri, "shapes@champion", uri, artifacts=None, who="t")
        assert (decision.promoted, copy.model, copy.aliases) == (True, ours.model, ("champion",))
        assert [one.action for one in read(store, "shapes")][-4:] == ["block", "block", "promote", "promote"]
