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
    ("error", "times", "tries"),
    [
        (StageCrashedError("it died.", died=True), 2, 3),
        (StageCrashedError("it died.", died=True), 3, 3),
        (StageCrashedError("a bug of ours."), 1, 1),
        (VidgenError("a mistake"), 1, 1),
    ],
)
def test_a_stage_that_died_is_tried_again_and_not_forever_and_a_mistake_is_not(
    tmp_path, monkeypatch, error, times, tries
):
    from flows.embedded import prefect_server
    from flows.prepare import prepare

    calls = []

    def run(spec, _show):
        calls.append(spec.stage)
        if len(calls) <= times:
            raise error
        return StageResult(stage=spec.stage)

    monkeypatch.setattr(tasks.local, "run", run)
    monkeypatch.setattr(tasks.run_stage, "retry_delay_seconds", [0.0, 0.0])
    home = Home.open(tmp_path / "home")
    spec = Spec(stage="prepare", recipe=load("shapes.tiny"), videos="v", home_dir=home.root)
    with prefect_server(home):
        if times < tries:
            assert prepare(spec).stage == "prepare"
        else:
            with pytest.raises(type(error)):
                prepare(spec)
    assert len(calls) == tries


@pytest.mark.parametrize(("code", "died"), [(134, True), (137, True), (None, True), (1, False)])
def test_only_a_process_that_a_signal_ended_has_died(tmp_path, code, died):
    spec = Spec(stage="prepare", recipe=load("shapes.tiny"), videos="v", home_dir=tmp_path)
    spec.run_dir.mkdir(parents=True)
    spec.log_file.write_text("words")
    with pytest.raises(StageCrashedError) as caught:
        tasks.local.answer(spec, code)
    assert caught.value.died == died
