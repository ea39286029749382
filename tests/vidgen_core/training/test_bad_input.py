"""What a run says of bad input: a sentence with the next move, and the last good checkpoint as it was."""

import os

import numpy as np
import pytest

from vidgen_core.errors import VidgenError
from vidgen_core.training import checkpoints
from vidgen_core.training.columns import TensorColumn, stored_in
from vidgen_core.training.fit import fit
from vidgen_core.training.place import Place
from vidgen_core.training.store import store_at

ALONE = Place()


class StoppedError(Exception):
    """A run that ends without a word."""


def broken_at(number, job):
    def stop(step):
        if step.number == number:
            raise StoppedError

    with pytest.raises(StoppedError):
        fit(job, place=ALONE, watch=stop)


def latest_step(job):
    return int(checkpoints.published(store_at(job.checkpoints))[-1].removeprefix("step-"))


def test_a_shard_that_breaks_in_the_midst_of_a_run_is_a_sentence_and_leaves_the_last_good_checkpoint(
    data, cases, tmp_path
):
    expected = fit(cases.job(data, tmp_path / "unbroken"), place=ALONE)
    job, shard = cases.job(data, tmp_path / "work"), data.files[1]
    content = shard.read_bytes()

    def cut(step):
        if step.number == 5:
            os.truncate(shard, len(content) // 2)

    with pytest.raises(VidgenError, match=rf"{shard.name} is missing or damaged.*run vidgen latents again"):
        fit(job, place=ALONE, watch=cut)
    assert latest_step(job) == 4
    shard.write_bytes(content)
    resumed = fit(job, place=ALONE)
    assert (resumed.resumed_from, resumed.weights) == (4, expected.weights)


def test_samples_that_are_not_numbers_are_told_apart_from_a_loss_that_grew(data, cases, tmp_path):
    job = cases.job(data, tmp_path / "work", nonfinite_limit=3)
    broken_at(5, job)
    for file in data.files:
        stored = stored_in(file)
        spoiled, values = file.read_bytes(), TensorColumn([file], "latent", stored)
        nothing = np.full(stored.shape, np.nan, stored.dtype).tobytes()
        for row in range(len(values)):
            spoiled = spoiled.replace(values.gather([row]).tobytes(), nothing)
        file.write_bytes(spoiled)
    with pytest.raises(VidgenError, match=r"4 stored samples .* not finite.*vidgen latents --verify"):
        fit(job, place=ALONE)
    assert latest_step(job) == 4


def test_a_folder_with_checkpoints_of_another_family_is_left_alone(data, cases, tmp_path):
    job = cases.job(data, tmp_path / "work")
    broken_at(5, job)
    before = {file: file.read_bytes() for file in (job.work_dir / "checkpoints").rglob("*.*")}
    with pytest.raises(VidgenError, match=r"other data or settings.*folder of its own"):
        fit(cases.job(data, tmp_path / "work", name="duel"), place=ALONE)
    assert {file: file.read_bytes() for file in (job.work_dir / "checkpoints").rglob("*.*")} == before
    assert latest_step(job) == 4


def test_what_compares_samples_must_meet_two_at_a_time_of_every_shape(cases, tmp_path, monkeypatch):
    job = cases.job(cases.data_of_shapes(tmp_path / "data"), tmp_path / "work", batch=4, accumulate=2, steps=1)
    monkeypatch.setattr(type(job.build()), "any_shape", True)
    fit(cases.job(job.data, tmp_path / "other", batch=2, accumulate=2, steps=1), place=ALONE)
    monkeypatch.setattr(type(job.build()), "joins_samples", True)
    fit(job, place=ALONE)
    for changes in ({"batch": 2}, {"token_budget": 2 * 48}):
        settings = {"batch": 4, "accumulate": 2, "steps": 1, **changes}
        with pytest.raises(VidgenError, match="one at a time"):
            fit(cases.job(job.data, tmp_path / "work", **settings), place=ALONE)
