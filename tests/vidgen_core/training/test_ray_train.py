import os
import signal
import threading
import time

import pytest

from vidgen_core.errors import VidgenError
from vidgen_core.training.checkpoints import name_of, published
from vidgen_core.training.fit import fit
from vidgen_core.training.journal import History
from vidgen_core.training.place import Place
from vidgen_core.training.speed import CLOCKED
from vidgen_core.training.store import store_at

pytestmark = pytest.mark.ray


@pytest.fixture
def make(data, cases, tmp_path):
    """Jobs with two workers that Ray's processes can build: of a family that is no toy of this folder."""

    def job(name, **changes):
        config = {"network": {"dim": 32, "depth": 2, "heads": 2}}
        plain = cases.job(data, tmp_path / name, name="flow_matching", config=config, **{"workers": 2, **changes})
        return plain.model_copy(update={"space": plain.space.model_copy(update={"text_dim": 6})})

    return job


def rows(job):
    """The rows of a run, without the figures that a clock made."""
    found = History.read(job.work_dir / "history.jsonl")
    return [{name: value for name, value in row.items() if not name.startswith(CLOCKED)} for row in found]


def test_two_workers_on_ray_equal_one_process_bit_for_bit(ray_session, make, monkeypatch):
    from vidgen_core.training.ray_train import fit_on_ray

    here, there = make("here"), make("there")
    handler = signal.getsignal(signal.SIGINT)
    on_ray = fit_on_ray(there)
    assert signal.getsignal(signal.SIGINT) is handler
    alone = fit(here, place=Place())
    assert on_ray.weights == alone.weights
    assert on_ray.held_out == alone.held_out
    assert rows(there) == rows(here)
    assert not (there.work_dir / "ray").exists()
    # What is finished needs no workers: there is no trainer to start them.
    monkeypatch.delattr("vidgen_core.training.ray_train.TorchTrainer")
    began = time.monotonic()
    assert fit_on_ray(there) == on_ray
    assert time.monotonic() - began < 5


def test_a_mistake_that_one_worker_finds_is_the_same_sentence_here_and_ends_the_others_at_once(
    ray_session, make, tmp_path
):
    from vidgen_core.training.ray_train import fit_on_ray

    found = tmp_path / "found"

    # Opened on the first worker only; the second one waits for it in a sum.
    def open_recorder():
        import time

        from vidgen_core.errors import VidgenError

        found.write_text(str(time.monotonic()))
        raise VidgenError("The tracker is locked", got=3, allowed=[1, 2], move="Stop the other run")

    with pytest.raises(VidgenError) as raised:
        fit_on_ray(make("job"), open_recorder=open_recorder)
    # From the mistake on: how long a machine takes to start two workers says nothing of how they end.
    assert time.monotonic() - float(found.read_text()) < 60
    expected = VidgenError("The tracker is locked", got=3, allowed=[1, 2], move="Stop the other run")
    assert str(raised.value) == str(expected)


def test_more_workers_than_ray_has_cores_for_is_a_sentence(ray_session, make):
    from vidgen_core.training.ray_train import fit_on_ray

    with pytest.raises(VidgenError, match="CPUs"):
        fit_on_ray(make("job", batch=64, workers=64))


def pid_recorder(pid_file):
    """Opens a recorder that takes rows and says which process the first worker is."""

    def open_recorder():
        import os

        class Nothing:
            def log(self, step, values):
                pass

            def flush(self):
                pass

            def close(self):
                pass

        pid_file.write_text(str(os.getpid()))
        return Nothing()

    return open_recorder


def send(job, number, pid_of, *, rows_there=20):
    """Send a signal to a process once the run has written some rows."""

    def once():
        while len(rows(job)) < rows_there:
            time.sleep(0.05)
        os.kill(pid_of(), number)

    sender = threading.Thread(target=once, daemon=True)
    sender.start()
    return sender


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing_but_time(ray_session, make):
    from vidgen_core.training.ray_train import fit_on_ray

    expected = fit(make("here", steps=400, checkpoint_every=10), place=Place())
    job = make("there", steps=400, checkpoint_every=10)
    pid_file = job.work_dir / "pid"
    killer = send(job, signal.SIGKILL, lambda: int(pid_file.read_text()))
    fitted = fit_on_ray(job, open_recorder=pid_recorder(pid_file))
    assert not killer.is_alive()
    assert 0 < fitted.resumed_from < 400
    assert fitted.weights == expected.weights
    assert rows(job) == rows(make("here"))


@pytest.mark.slow
@pytest.mark.parametrize("to", ["stage", "worker"])
def test_a_sigterm_saves_the_next_step_and_the_same_call_goes_on_bit_for_bit(ray_session, make, to):
    from vidgen_core.training.ray_train import fit_on_ray

    changes = {"steps": 1000, "checkpoint_every": 10**6, "held_out_every": 10**6}
    expected = fit(make("here", **changes), place=Place())
    job, handler = make("there", **changes), signal.getsignal(signal.SIGTERM)
    pid_file = job.work_dir / "pid"
    send(job, signal.SIGTERM, os.getpid if to == "stage" else lambda: int(pid_file.read_text()))
    with pytest.raises(VidgenError, match="asked to stop; step .* is saved") as raised:
        fit_on_ray(job, open_recorder=pid_recorder(pid_file))
    assert raised.value.exit_code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is handler
    (saved,) = published(store_at(job.checkpoints))
    assert f"step {int(saved.removeprefix('step-'))} is saved" in str(raised.value)
    resumed = fit_on_ray(job)
    assert saved == name_of(resumed.resumed_from)
    assert resumed.weights == expected.weights
    assert rows(job) == rows(make("here"))


@pytest.mark.slow
def test_a_mistake_of_ours_is_told_in_a_line_and_kept_whole_in_a_file(ray_session, make):
    from vidgen_core.training.ray_train import fit_on_ray

    def open_recorder():
        raise KeyError("of ours")

    job = make("job")
    with pytest.raises(VidgenError, match="KeyError: 'of ours'") as raised:
        fit_on_ray(job, open_recorder=open_recorder, restarts=0)
    assert len(str(raised.value)) < 600
    assert "Traceback" in (job.work_dir / "failure.log").read_text()
