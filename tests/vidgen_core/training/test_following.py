import multiprocessing
import time
from functools import partial
from pathlib import Path

import pytest
import torch

import vidgen_core.families
from vidgen_core import weights
from vidgen_core.training import checkpoints, following
from vidgen_core.training.fit import fit
from vidgen_core.training.place import Place
from vidgen_core.training.store import store_at

ALONE = Place()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(following, "_LOOK_S", 0.01)


@pytest.mark.parametrize("name", ["toy", "duel"])
def test_what_is_seen_of_the_last_checkpoint_is_what_the_run_came_to(data, cases, tmp_path, name):
    job = cases.job(data, tmp_path / "work", name=name)
    fit(job, place=ALONE)
    seen = {}
    following.follow(job, lambda learner, step: seen.update({step: learner.state_dict()}))
    final, _ = weights.load(job.final_dir)
    assert list(seen) == [12]
    assert all(torch.equal(value, seen[12][name]) for name, value in final.items())


def _watch(job, ready, told):
    vidgen_core.families.__path__.append(str(Path(__file__).parent / "toys"))
    following._LOOK_S = 0.01
    ready.set()
    following.follow(job, lambda _, step: told.put(step))
    told.put(None)


def test_it_sees_checkpoints_while_the_run_goes_on_and_the_run_does_not_notice(data, cases, tmp_path):
    quiet, watched = (cases.job(data, tmp_path / place, checkpoint_every=1, steps=60) for place in ("quiet", "watched"))
    context = multiprocessing.get_context("spawn")
    ready, told = context.Event(), context.Queue()
    # In a process of its own, as in a run: building a learner draws from the process's generator.
    watcher = context.Process(target=_watch, args=(watched, ready, told))
    watcher.start()
    assert ready.wait(60)
    fitted = fit(watched, place=ALONE)
    steps = list(iter(lambda: told.get(timeout=60), None))
    watcher.join(timeout=60)
    assert steps == sorted(set(steps))
    assert steps[-1] == 60
    assert len(steps) > 1
    assert fitted.weights == fit(quiet, place=ALONE).weights


def test_a_damaged_checkpoint_is_passed_over(data, cases, tmp_path):
    job = cases.job(data, tmp_path / "work")
    fit(job, place=ALONE)
    (job.work_dir / "checkpoints" / "step-00000012" / "rank-00000.bin").write_bytes(b"nothing")
    seen = []
    following.follow(job, lambda _, step: seen.append(step))
    assert seen == [8]
    assert checkpoints.newest(store_at(job.checkpoints), after=8) is None


@pytest.mark.ray
def test_work_beside_a_training_never_fails_it_and_never_outlasts_it(ray_session, tmp_path):
    from vidgen_core.training.ray_beside import beside

    mark = tmp_path / "mark"
    with beside(mark.touch, end_s=60.0) as why:
        pass
    assert mark.exists()
    assert why == []

    def fails():
        raise ValueError("no picture")

    with beside(fails, end_s=60.0) as why:
        pass
    assert "no picture" in why[0]
    with beside(partial(time.sleep, 300), end_s=0.5) as why:
        pass
    assert "not done" in why[0]
