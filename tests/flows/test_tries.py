"""A stage is tried again where that can help, and only there."""

import pytest

from flows import tasks
from flows.failures import StageCrashedError
from flows.home import Home
from flows.recipes.recipe import load
from flows.spec import Spec, StageResult
from vidgen_core.errors import VidgenError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (StageCrashedError("a library aborted", by_library=True), 2),
        (StageCrashedError("a bug of ours"), 1),
        (VidgenError("a mistake"), 1),
    ],
)
def test_an_abort_of_a_library_is_tried_once_more_and_nothing_else_is(tmp_path, monkeypatch, error, tries):
    from flows.embedded import prefect_server
    from flows.prepare import prepare

    calls = []

    def run(spec, _show):
        calls.append(spec.stage)
        if len(calls) == 1:
            raise error
        return StageResult(stage=spec.stage)

    monkeypatch.setattr(tasks.local, "run", run)
    monkeypatch.setattr(tasks.run_stage, "retry_delay_seconds", 0)
    home = Home.open(tmp_path / "home")
    spec = Spec(stage="prepare", recipe=load("shapes.tiny"), videos="v", home_dir=home.root)
    with prefect_server(home):
        if tries == 2:
            assert prepare(spec).stage == "prepare"
        else:
            with pytest.raises(type(error)):
                prepare(spec)
    assert len(calls) == tries
