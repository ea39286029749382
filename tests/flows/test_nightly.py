"""What a run that nobody looks at does about a stage that dies, and about one that cannot be done."""

import logging

import pytest

from flows.failures import StageCrashedError
from flows.recipes.recipe import load
from flows.spec import Spec, StageResult
from vidgen_core.errors import VidgenError


@pytest.fixture
def tried(monkeypatch, tmp_path):
    from flows import nightly

    monkeypatch.setattr(nightly, "_BACKOFF_S", (0.0, 0.0))
    monkeypatch.setattr(nightly, "get_run_logger", lambda: logging.getLogger(__name__))

    def tries(*ends):
        left = list(ends)

        def stage(_spec):
            if isinstance(end := left.pop(0), Exception):
                raise end
            return end

        monkeypatch.setattr(nightly, "STAGE_FLOWS", {"train": stage})
        spec = Spec(stage="prepare", recipe=load("shapes.tiny"), videos="v", home_dir=tmp_path)
        return nightly._stage(spec, "train"), len(left)

    return tries


def test_a_stage_that_died_is_tried_again_and_not_forever(tried):
    done, died = StageResult(stage="train"), StageCrashedError("it died.")
    assert tried(done, died) == (done, 1)
    assert tried(died, died, done) == (done, 0)
    with pytest.raises(StageCrashedError):
        tried(died, died, died, done)


def test_a_mistake_is_not_tried_again(tried):
    with pytest.raises(VidgenError, match="cannot be"):
        tried(VidgenError("It cannot be"), StageResult(stage="train"))
