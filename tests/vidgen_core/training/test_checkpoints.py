import json
import os
import shutil
from pathlib import Path

import pyarrow.fs
import pytest
import torch

from vidgen_core.errors import VidgenError
from vidgen_core.training import checkpoints, sharded_files
from vidgen_core.training import store as stores
from vidgen_core.training.checkpoints import Checkpoints, pointers, protect, published, read
from vidgen_core.training.place import Place
from vidgen_core.training.store import Bucket, Folder, store_at

JOB = "some job"


def tensors(step):
    return {"learner/weight": torch.full((100,), float(step)), "learner/half": torch.full((), step).bfloat16()}


def facts(step):
    return {"counters": {"step": step, "mean": 0.1 + step}}


def opened(store, keep=2, job=JOB):
    return Checkpoints(store, Place(), job=job, keep=keep)


def save(store, *steps, keep=2, **named):
    kept = opened(store, keep)
    for step in steps:
        kept.save(step, tensors(step), facts(step), **named)
    kept.wait()
    kept.close()


def restored(store, job=JOB):
    """What a run would go on from, and the tensors it gets."""
    kept, into = opened(store, job=job), tensors(0)
    found = kept.restore(into)
    kept.close()
    return found, into


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path):
    if request.param == "folder":
        return Folder(tmp_path / "kept")
    # Any file system will do, because a bucket is never asked to rename.
    return Bucket(pyarrow.fs.SubTreeFileSystem(str(tmp_path), pyarrow.fs.LocalFileSystem()), "bucket/kept")


def test_the_newest_checkpoint_comes_back_as_it_was(store):
    save(store, 5, 10, 15)
    found, into = restored(store)
    assert found == (15, facts(15), {})
    assert all(torch.equal(into[name], value) for name, value in tensors(15).items())
    assert into["learner/half"].dtype == torch.bfloat16
    again, told = read(store, "step-00000015")
    assert told == facts(15)
    assert all(torch.equal(again[name], value) for name, value in tensors(15).items())


def test_what_is_saved_is_the_state_of_its_step_whatever_happens_while_it_is_written(store):
    kept, live = opened(store), tensors(5)
    for step in (5, 10, 15):
        live["learner/weight"].fill_(step)
        kept.save(step, live, facts(step))
        live["learner/weight"].fill_(-1)
    kept.wait()
    assert all(torch.equal(read(store, f"step-{step:08d}")[0]["learner/weight"], tensors(step)["learner/weight"])
               for step in (10, 15))  # fmt: skip
    kept.close()


def test_only_the_newest_and_what_is_pointed_to_are_kept(store):
    for step, objective in ((1, 3.0), (2, 1.0), (3, 2.0), (4, None), (5, 1.5)):
        save(store, step, objective=objective, protected="mine" if step == 1 else None)
    assert published(store) == [f"step-{step:08d}" for step in (1, 2, 4, 5)]
    assert {name: pointer["checkpoint"][-1] for name, pointer in pointers(store).items()} == {
        "latest": "5", "best": "2", "mine": "1",
    }  # fmt: skip
    protect(store, "step-00000004", "mine")
    save(store, 6, 7, objective=0.5)
    assert published(store) == [f"step-{step:08d}" for step in (4, 6, 7)]
    assert pointers(store)["best"] == {"checkpoint": "step-00000006", "objective": 0.5}
    with pytest.raises(VidgenError, match="step-00000099"):
        protect(store, "step-00000099", "mine")


def test_without_a_checkpoint_there_is_none(store):
    found, into = restored(store)
    assert found == (0, None, {})
    assert all(torch.equal(into[name], value) for name, value in tensors(0).items())


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "a flipped bit": lambda place: flip(place / "rank-00000.bin"),
    "a short file": lambda place: os.truncate(place / "rank-00000.bin", 100),
    "an empty file": lambda place: os.truncate(place / "rank-00000.bin", 0),
    "a missing file": lambda place: (place / "rank-00000.bin").unlink(),
    "a manifest of zeros": lambda place: (place / "manifest.json").write_bytes(bytes(300)),
    "a manifest of something else": lambda place: (place / "manifest.json").write_text("[1, 2]"),
    "a manifest without files": lambda place: (place / "manifest.json").write_text('{"step": 10}'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_named_and_removed(tmp_path, damage):
    store = Folder(tmp_path)
    save(store, 5, 10, objective=1.0, protected="mine")
    DAMAGE[damage](tmp_path / "step-00000010")
    found, into = restored(store)
    assert found.step == 5
    assert list(found.damaged) == ["step-00000010"]
    assert torch.equal(into["learner/weight"], tensors(5)["learner/weight"])
    assert published(store) == ["step-00000005"]
    assert pointers(store).keys() == {"best"}
    save(store, 10)
    assert restored(store)[0].step == 10


@pytest.mark.parametrize("change", [{"job": "other"}, {"drop": "learner/half"}, {"shape": (3,)}, {"more": "learner/x"}])
def test_a_checkpoint_that_does_not_fit_is_a_sentence_and_stays_untouched(tmp_path, change):
    store = Folder(tmp_path)
    save(store, 5)
    into = tensors(0)
    into.pop(change.get("drop"), None)
    if "more" in change:
        into[change["more"]] = torch.zeros(2)
    if "shape" in change:
        into["learner/weight"] = torch.zeros(change["shape"])
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
    kept = opened(store, job=change.get("job", JOB))
    with pytest.raises(VidgenError, match="other data or settings" if "job" in change else "learner/"):
        kept.restore(into)
    kept.close()
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*")} == before
    assert all((value == 0).all() for value in into.values())


def test_a_checkpoint_is_bare_bytes_and_json_and_holds_no_code(tmp_path):
    save(Folder(tmp_path), 5)
    place = tmp_path / "step-00000005"
    assert {file.name for file in place.iterdir()} == {"manifest.json", "rank-00000.bin"}
    told = json.loads((place / "manifest.json").read_text())
    assert told["job"] == JOB
    assert (place / "rank-00000.bin").stat().st_size == sum(v.nbytes for v in tensors(5).values())


def test_an_address_that_nothing_opens_is_a_sentence(tmp_path):
    with pytest.raises(VidgenError, match="no store"):
        store_at("nonsense://bucket")
    save(store_at(tmp_path.as_uri()), 5)
    assert published(Folder(tmp_path)) == ["step-00000005"]


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
        stores.write_synced = killer.around(stores.write_synced)
        for owner, name in (
            (Path, "mkdir"),
            (Path, "replace"),
            (Path, "unlink"),
            (Path, "open"),
            (os, "unlink"),
            (os, "rmdir"),
        ):
            setattr(owner, name, killer.around(getattr(owner, name)))
        save(Folder(folder), step)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_kill_at_any_moment_of_saving_leaves_the_old_or_the_new_one_whole(tmp_path):
    steps_seen, number = [], 0
    while True:
        folder = tmp_path / str(number)
        save(Folder(folder), 5, 10)
        lived = save_and_die(folder, 15, number)
        found, into = restored(Folder(folder))
        assert found.damaged == {}
        assert torch.equal(into["learner/weight"], tensors(found.step)["learner/weight"])
        steps_seen.append(found.step)
        assert all((place / "manifest.json").exists() for place in folder.glob("step-*"))
        save(Folder(folder), 20)
        assert restored(Folder(folder))[0].step == 20
        shutil.rmtree(folder)
        number += 1
        if lived:
            break
    assert number > 8
    assert steps_seen == sorted(steps_seen)
    assert set(steps_seen) == {10, 15}


def test_a_save_that_fails_is_told_at_the_next_one_and_leaves_the_last_good_one(tmp_path, monkeypatch):
    store = Folder(tmp_path)
    save(store, 5)
    kept = opened(store)
    monkeypatch.setattr(
        sharded_files.Writer, "write_data", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    kept.save(10, tensors(10), facts(10))
    with pytest.raises(OSError, match="No space"):
        kept.save(15, tensors(15), facts(15))
    kept.close()
    monkeypatch.undo()
    assert published(store) == ["step-00000005"]
    assert restored(store)[0].step == 5
    assert checkpoints.name_of(5) == "step-00000005"
