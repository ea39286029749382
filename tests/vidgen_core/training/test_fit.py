import os
import resource
import shutil
import signal
import time

import numpy as np
import pytest
import torch

from vidgen_core import weights
from vidgen_core.codecs._open import open_codec
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import to_unit
from vidgen_core.training import checkpoints, samples
from vidgen_core.training.fit import finished, fit
from vidgen_core.training.job import Data, Job
from vidgen_core.training.journal import History
from vidgen_core.training.place import Place
from vidgen_core.training.speed import CLOCKED
from vidgen_core.training.store import store_at

ALONE = Place()


class StoppedError(Exception):
    """A run that ends without a word, as if it had been killed."""


class StoppingRecorder:
    """Stops the run when the row of a step is logged."""

    def __init__(self, step):
        self.step = step

    def log(self, step, values):
        if step >= self.step:
            raise StoppedError

    def flush(self):
        pass

    def close(self):
        pass


def rows(job):
    found = History.read(job.work_dir / "history.jsonl")
    return [{name: value for name, value in row.items() if not name.startswith(CLOCKED)} for row in found]


def latest_step(job):
    there = checkpoints.published(store_at(job.checkpoints))
    return int(there[-1].removeprefix("step-")) if there else 0


def interrupted(job, step):
    with pytest.raises(StoppedError):
        fit(job, place=ALONE, recorder=StoppingRecorder(step))


@pytest.mark.parametrize("name", ["toy", "duel"])
@pytest.mark.parametrize("step", [3, 6, 9, 10, 12])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(data, cases, tmp_path, name, step):
    unbroken, broken = (cases.job(data, tmp_path / place, name=name) for place in ("unbroken", "broken"))
    expected = fit(unbroken, place=ALONE)
    interrupted(broken, step)
    resumed = fit(broken, place=ALONE)
    assert resumed.resumed_from == (step - 1) // 4 * 4
    assert resumed.weights == expected.weights
    assert resumed.held_out == expected.held_out
    assert rows(broken) == rows(unbroken)


def test_a_run_that_is_broken_at_every_row_still_equals_an_unbroken_one(data, cases, tmp_path):
    unbroken, broken = (cases.job(data, tmp_path / place, checkpoint_every=1) for place in ("unbroken", "broken"))
    expected = fit(unbroken, place=ALONE)
    for step in (3, 6, 9, 12):
        interrupted(broken, step)
    assert fit(broken, place=ALONE).weights == expected.weights
    assert rows(broken) == rows(unbroken)


def test_two_workers_equal_one_that_accumulates_two_pieces_bit_for_bit(data, cases, tmp_path):
    one = cases.job(data, tmp_path / "one", accumulate=2)
    two = cases.job(data, tmp_path / "two", workers=2)
    expected = fit(one, place=ALONE)
    cases.finish(two, world=2)
    assert finished(two).weights == expected.weights
    assert finished(two).held_out == expected.held_out
    assert rows(two) == rows(one)


def test_a_run_of_two_workers_goes_on_with_one_bit_for_bit(data, cases, tmp_path):
    expected = fit(cases.job(data, tmp_path / "unbroken", workers=2), place=ALONE)
    broken = cases.job(data, tmp_path / "broken", workers=2)
    interrupted(broken, 6)
    cases.finish(broken, world=2)
    assert finished(broken).resumed_from == 4
    assert finished(broken).weights == expected.weights


def test_two_workers_agree_on_statistics_so_that_their_checkpoint_speaks_for_both(data, cases, tmp_path):
    job = cases.job(data, tmp_path / "work", name="duel", workers=2)
    cases.finish(job, world=2)
    unbroken = finished(job)
    shutil.rmtree(job.final_dir)
    shutil.rmtree(job.work_dir / "checkpoints" / "step-00000012")
    cases.finish(job, world=2)
    assert finished(job).resumed_from == 8
    assert finished(job).weights == unbroken.weights


def test_a_held_out_pass_changes_nothing_of_the_training(data, cases, tmp_path):
    often, never = (
        fit(cases.job(data, tmp_path / str(every), held_out_every=every), place=ALONE) for every in (1, 1000)
    )
    assert often.weights == never.weights
    assert often.held_out == never.held_out


def test_a_finished_run_is_taken_as_it_is(data, cases, tmp_path):
    job = cases.job(data, tmp_path / "work")
    first = fit(job, place=ALONE)
    written = {file: file.stat().st_mtime_ns for file in job.work_dir.rglob("*")}
    assert fit(job, place=ALONE) == first == finished(job)
    assert {file: file.stat().st_mtime_ns for file in job.work_dir.rglob("*")} == written


def test_the_result_holds_the_averaged_weights_and_what_is_needed_to_build_them(data, cases, tmp_path):
    job = cases.job(data, tmp_path / "work", config={"hidden": 5})
    fitted = fit(job, place=ALONE)
    state, card = weights.load(job.final_dir)
    assert (card["kind"], card["name"], card["config"]) == ("families", "toy", {"hidden": 5})
    assert card["space"] == job.space.model_dump(mode="json")
    job.build().load_state_dict(state)
    last, _ = checkpoints.read(store_at(job.checkpoints), "step-00000012")
    assert all(torch.equal(value, last[f"players/toy/average/{name}"]) for name, value in state.items())
    assert not all(torch.equal(value, last[f"learner/{name}"]) for name, value in state.items())
    assert fitted.samples == 21
    assert fitted.held_out["loss"] > 0


def test_a_damaged_checkpoint_costs_steps_but_not_exactness_and_is_said(data, cases, tmp_path, caplog):
    expected = fit(cases.job(data, tmp_path / "unbroken"), place=ALONE)
    job = cases.job(data, tmp_path / "work")
    interrupted(job, 9)
    os.truncate(job.work_dir / "checkpoints" / "step-00000008" / "rank-00000.bin", 1000)
    resumed = fit(job, place=ALONE)
    assert resumed.resumed_from == 4
    assert resumed.weights == expected.weights
    assert "step-00000008 was damaged" in resumed.notes[0]
    assert "goes on from step 4" in caplog.text


def test_a_run_whose_checkpoints_are_all_damaged_starts_again(data, cases, tmp_path):
    expected = fit(cases.job(data, tmp_path / "unbroken"), place=ALONE)
    job = cases.job(data, tmp_path / "work", keep=1)
    interrupted(job, 9)
    for file in (job.work_dir / "checkpoints").rglob("*.bin"):
        file.unlink()
    resumed = fit(job, place=ALONE)
    assert (resumed.resumed_from, resumed.weights) == (0, expected.weights)


@pytest.mark.parametrize("until", ["checkpoint", "end"])
def test_a_folder_of_another_run_is_left_alone(data, cases, tmp_path, until):
    job = cases.job(data, tmp_path / "work")
    if until == "end":
        fit(job, place=ALONE)
    else:
        interrupted(job, 6)
    with pytest.raises(VidgenError, match="other data or settings"):
        fit(cases.job(data, tmp_path / "work", seed=1), place=ALONE)
    assert fit(job, place=ALONE).steps == 12


def test_a_full_disk_is_a_sentence_and_leaves_the_last_good_checkpoint(data, cases, tmp_path):
    expected = fit(cases.job(data, tmp_path / "unbroken"), place=ALONE)
    job = cases.job(data, tmp_path / "work")
    interrupted(job, 6)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(VidgenError, match="disk is full") as raised:
            fit(job, place=ALONE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "Free some space" in str(raised.value)
    assert latest_step(job) == 4
    assert fit(job, place=ALONE).weights == expected.weights


class HoldingRecorder:
    """Holds rows back, as one that sends them in batches does; what it holds dies with its process."""

    def __init__(self, there):
        self.there, self.held = there, []

    def log(self, step, values):
        self.held.append(step)

    def flush(self):
        self.there += self.held
        self.held = []

    def close(self):
        raise AssertionError("whoever opened the recorder closes it")


@pytest.mark.parametrize("step", range(1, 13))
def test_no_row_is_lost_wherever_a_run_is_broken(data, cases, tmp_path, step):
    def die(done):
        if done.number == step:
            raise StoppedError

    job, there = cases.job(data, tmp_path / "work", log_every=1), []
    with pytest.raises(StoppedError):
        fit(job, place=ALONE, recorder=HoldingRecorder(there), watch=die)
    fit(job, place=ALONE, recorder=HoldingRecorder(there))
    assert set(there) == set(range(1, 13))


class AskingRecorder(StoppingRecorder):
    """Asks the run to stop, as an operator would, when the row of a step is logged."""

    def log(self, step, values):
        if step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_is_asked_to_stop_saves_its_next_step_and_goes_on_bit_for_bit(data, cases, tmp_path):
    expected = fit(cases.job(data, tmp_path / "unbroken"), place=ALONE)
    job, handler = cases.job(data, tmp_path / "work", checkpoint_every=1000), signal.getsignal(signal.SIGTERM)
    with pytest.raises(VidgenError, match="step 7 is saved") as raised:
        fit(job, place=ALONE, recorder=AskingRecorder(6))
    assert raised.value.exit_code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is handler
    assert latest_step(job) == 7
    resumed = fit(job, place=ALONE)
    assert (resumed.resumed_from, resumed.weights) == (7, expected.weights)


def test_the_best_checkpoint_and_protected_ones_stay_and_an_address_holds_them(data, cases, tmp_path):
    address = (tmp_path / "elsewhere").as_uri()
    changes = {"checkpoint_every": 2, "held_out_every": 2, "keep": 1, "protect_every": 4, "checkpoint_uri": address}
    job = cases.job(data, tmp_path / "work", **changes)
    fit(job, place=ALONE)
    measured = {row["step"]: row["held_out/loss"] for row in rows(job) if "held_out/loss" in row}
    store = store_at(f"{address}/{job.work_dir.name}/checkpoints")
    pointers = checkpoints.pointers(store)
    assert pointers["best"]["checkpoint"] == checkpoints.name_of(min(measured, key=measured.get))
    assert {"step-00000004", "step-00000008", "step-00000012"} <= set(checkpoints.published(store))
    assert set(checkpoints.published(store)) == {pointer["checkpoint"] for pointer in pointers.values()}
    assert not (job.work_dir / "checkpoints").exists()


def test_a_loss_that_stays_infinite_ends_the_run_with_a_sentence(data, cases, tmp_path):
    job = cases.job(data, tmp_path / "work", config={"nan_start": 12, "nan_stop": 1000}, nonfinite_limit=4)
    with pytest.raises(VidgenError, match="not finite 4 steps in a row"):
        fit(job, place=ALONE)
    assert latest_step(job) == 4


def test_skipped_steps_are_counted_in_the_result_and_in_the_rows(data, cases, tmp_path):
    job = cases.job(data, tmp_path / "work", config={"nan_start": 12, "nan_stop": 20})
    assert fit(job, place=ALONE).skipped == 2
    assert [row["train/skipped_steps"] for row in rows(job) if "train/skipped_steps" in row] == [0, 2, 2, 2]


def test_data_that_does_not_fit_the_learner_is_a_sentence(data, cases, tmp_path):
    job = cases.job(data, tmp_path / "work")
    wrong = job.model_copy(update={"space": job.space.model_copy(update={"channels": 5})})
    with pytest.raises(VidgenError, match="space"):
        fit(wrong, place=ALONE)
    with pytest.raises(VidgenError, match="no clip to learn from"):
        fit(job.model_copy(update={"data": data.model_copy(update={"train": "nothing"})}), place=ALONE)


def test_what_cannot_learn_is_a_sentence(data, cases, tmp_path):
    job = Job(kind="codecs", name="identity", settings=cases.settings(), data=data, work_dir=tmp_path)
    with pytest.raises(VidgenError, match="nothing to learn"):
        fit(job, place=ALONE)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_families_own_run_resumes_bit_for_bit_too(data, cases, tmp_path, optimizer):
    def job(place):
        config = {"network": {"dim": 32, "depth": 2, "heads": 2}}
        plain = cases.job(data, tmp_path / place, name="flow_matching", config=config, steps=6, optimizer=optimizer)
        return plain.model_copy(update={"space": plain.space.model_copy(update={"text_dim": 6})})

    expected = fit(job("unbroken"), place=ALONE)
    interrupted(job("broken"), 6)
    assert fit(job("broken"), place=ALONE).weights == expected.weights


def test_a_run_over_several_shapes_resumes_bit_for_bit_and_says_what_it_saw(data, cases, tmp_path):
    several = cases.data_of_shapes(tmp_path / "several")
    for name in ("whole", "broken"):
        job = cases.job(several, tmp_path / name, token_budget=200)
        if name == "broken":
            interrupted(job, 6)
        fitted = fit(job, place=ALONE)
    assert fitted.resumed_from == 4
    assert fitted.weights == fit(cases.job(several, tmp_path / "whole", token_budget=200), place=ALONE).weights
    assert fitted.samples == 21
    assert np.isfinite(fitted.held_out["loss"])


def test_a_family_of_one_shape_refuses_samples_of_another(cases, tmp_path):
    job = cases.job(cases.data_of_shapes(tmp_path / "several"), tmp_path / "work", name="duel")
    job = job.model_copy(update={"space": job.space.model_copy(update={"text_dim": 0})})
    with pytest.raises(VidgenError, match="duel learns clips of one shape"):
        fit(job, place=ALONE)


def test_a_codec_ends_with_statistics_that_normalize_its_latents(tmp_path, cases, monkeypatch):
    clips = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8, 3), dtype=np.uint8)
    columns = {"clip_id": list("abcdef"), "split": ["train"] * 6, "media": [bytes([number]) for number in range(6)],
               "frames": [3] * 6, "height": [8] * 6, "width": [8] * 6}  # fmt: skip
    file = cases.write(tmp_path / "clips.parquet", columns)
    monkeypatch.setattr(samples, "decode_clips", lambda media: np.stack([clips[m[0]] for m in media]))
    job = Job(
        kind="codecs", name="causal_vae", settings=cases.settings(steps=3), data=Data(kind="clips", files=(file,)),
        work_dir=tmp_path / "work",
    )  # fmt: skip
    fitted = fit(job, place=ALONE)
    assert fitted.held_out == {}
    assert "held out" in fitted.notes[0]
    latents = open_codec(job.final_dir).encode(to_unit(torch.from_numpy(clips)))
    assert torch.allclose(latents.mean((0, 2, 3, 4)), torch.zeros(latents.shape[1]), atol=1e-3)
    assert torch.allclose(latents.std((0, 2, 3, 4)), torch.ones(latents.shape[1]), atol=1e-2)


def half_written(folder):
    return any(not (place / "manifest.json").exists() for place in folder.glob("step-*"))


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_a_run_that_is_killed_again_and_again_equals_an_unbroken_one(data, cases, tmp_path, world):
    changes = {"workers": 2, "steps": 60, "checkpoint_every": 1, "config": {"hidden": 64}}
    expected = fit(cases.job(data, tmp_path / "unbroken", **changes), place=ALONE)
    job = cases.job(data, tmp_path / "broken", **changes)
    folder = job.work_dir / "checkpoints"
    resumed_at = []
    for wait_for_saving in (True, False, True, False, True):
        workers = cases.start(job, world=world)
        reached = len(rows(job)) if resumed_at else 0
        deadline = time.monotonic() + 60
        while len(rows(job)) <= reached + 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        while wait_for_saving and not half_written(folder) and time.monotonic() < deadline:
            time.sleep(0.0001)
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
            worker.communicate()
        resumed_at.append(latest_step(job))
    cases.finish(job, world=world)
    assert resumed_at == sorted(resumed_at)
    assert 0 < resumed_at[-1] < 60
    assert finished(job).weights == expected.weights
    assert rows(job) == rows(cases.job(data, tmp_path / "unbroken", **changes))
