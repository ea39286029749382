import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from vidgen_core.training import checkpoints

JOB = "some job"


def parts(step):
    return {"learner": {"weight": torch.full((100,), float(step))}, "counters": {"step": step}}


def save(folder, step, keep=2):
    checkpoints.save(folder, step, parts(step), job=JOB, keep=keep)


def names(folder):
    return sorted(place.name for place in folder.iterdir())


def test_the_latest_checkpoint_comes_back_as_it_was(tmp_path):
    for step in (5, 10, 15):
        save(tmp_path, step)
    found = checkpoints.latest(tmp_path)
    assert (found.step, found.job, found.damaged) == (15, JOB, {})
    assert torch.equal(found.parts["learner"]["weight"], parts(15)["learner"]["weight"])
    assert found.parts["counters"] == {"step": 15}


def test_only_the_newest_are_kept(tmp_path):
    for step in range(1, 6):
        save(tmp_path, step, keep=3)
    assert names(tmp_path) == ["step-00000003", "step-00000004", "step-00000005"]


def test_without_a_checkpoint_there_is_none(tmp_path):
    assert checkpoints.latest(tmp_path / "nothing") == checkpoints.Found(None, 0, None, {})


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "a flipped bit": lambda place: flip(place / "learner.pt"),
    "a short file": lambda place: os.truncate(place / "learner.pt", 100),
    "an empty file": lambda place: os.truncate(place / "counters.pt", 0),
    "a missing file": lambda place: (place / "counters.pt").unlink(),
    "a manifest of zeros": lambda place: (place / "manifest.json").write_bytes(bytes(300)),
    "a manifest of something else": lambda place: (place / "manifest.json").write_text("[1, 2]"),
    "a manifest without files": lambda place: (place / "manifest.json").write_text('{"step": 10}'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path, damage):
    save(tmp_path, 5)
    save(tmp_path, 10)
    DAMAGE[damage](tmp_path / "step-00000010")
    found = checkpoints.latest(tmp_path)
    assert found.step == 5
    assert list(found.damaged) == ["step-00000010"]
    checkpoints.clean(tmp_path, found.damaged)
    assert names(tmp_path) == ["step-00000005"]
    save(tmp_path, 10)
    assert checkpoints.latest(tmp_path).step == 10


def test_the_state_holds_no_code(tmp_path):
    save(tmp_path, 5)
    place = tmp_path / "step-00000005"
    for file in place.glob("*.pt"):
        torch.load(file, weights_only=True)
    assert json.loads((place / "manifest.json").read_text())["job"] == JOB


class Killer:
    """Ends the process, as a kill would, before the n-th change of the disk."""

    def __init__(self, number):
        self.left = number

    def around(self, function):
        def call(*arguments, **named):
            if self.left == 0:
                os._exit(9)
            self.left -= 1
            return function(*arguments, **named)

        return call


def save_and_die(folder, step, number):
    """Save in a child that dies before its n-th change of the disk; returns whether it lived."""
    child = os.fork()
    if child == 0:
        killer = Killer(number)
        checkpoints.write_synced = killer.around(checkpoints.write_synced)
        for owner, name in ((Path, "mkdir"), (Path, "rename"), (Path, "unlink"), (os, "unlink"), (os, "rmdir")):
            setattr(owner, name, killer.around(getattr(owner, name)))
        save(folder, step)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_kill_at_any_moment_of_saving_leaves_the_old_or_the_new_one_whole(tmp_path):
    steps_seen, number = [], 0
    while True:
        folder = tmp_path / str(number)
        for step in (5, 10):
            save(folder, step)
        lived = save_and_die(folder, 15, number)
        found = checkpoints.latest(folder)
        assert found.damaged == {}
        assert torch.equal(found.parts["learner"]["weight"], parts(found.step)["learner"]["weight"])
        steps_seen.append(found.step)
        checkpoints.clean(folder)
        assert all((place / "manifest.json").exists() for place in folder.iterdir())
        save(folder, 20)
        assert checkpoints.latest(folder).step == 20
        shutil.rmtree(folder)
        number += 1
        if lived:
            break
    assert number > 8
    assert steps_seen == sorted(steps_seen)
    assert set(steps_seen) == {10, 15}


def test_a_save_that_fails_leaves_the_last_good_one_and_no_rubbish(tmp_path, monkeypatch):
    save(tmp_path, 5)

    def full(file, content):
        file.write_bytes(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_synced", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 10)
    assert names(tmp_path) == ["step-00000005"]
    assert checkpoints.latest(tmp_path).step == 5
