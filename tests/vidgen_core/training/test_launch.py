import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from tests.processes import below, listening
from vidgen_core.errors import VidgenError
from vidgen_core.training.job import Job
from vidgen_core.training.journal import History
from vidgen_core.training.launch import fit_as_asked, fit_by_torchrun


class Rows:
    """A recorder that keeps what it is told."""

    def __init__(self):
        self.steps, self.closed = [], False

    def log(self, step, values):
        self.steps.append(step)

    def flush(self):
        pass

    def close(self):
        self.closed = True


@pytest.fixture
def make(data, cases, tmp_path):
    """Jobs of a family that processes without our toys can build."""

    def job(name, **changes) -> Job:
        config = {"network": {"dim": 32, "depth": 2, "heads": 2}}
        plain = cases.job(data, tmp_path / name, name="flow_matching", config=config, **changes)
        return plain.model_copy(update={"space": plain.space.model_copy(update={"text_dim": 6})})

    return job


def workers_of(job):
    """Process ids of the workers of a job."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(job.work_dir / "job.json").encode() in words and b"torch.distributed.run" not in words:
            found.append(int(folder.name))
    return found


def test_torchrun_equals_a_plain_process_bit_for_bit_and_tells_every_row(make):
    rows = Rows()
    alone = fit_as_asked(make("alone", launcher="process", accumulate=2))
    job = make("together", launcher="torchrun", workers=2)
    together = fit_as_asked(job, open_recorder=lambda: rows)
    assert together.weights == alone.weights
    assert together.held_out == alone.held_out
    assert rows.steps == [row["step"] for row in History.read(job.work_dir / "history.jsonl")]
    assert rows.closed
    assert not (job.work_dir / "failure.log").exists()


def test_one_process_is_not_two_workers(make):
    with pytest.raises(VidgenError, match="training.launcher to torchrun"):
        fit_as_asked(make("job", launcher="process", workers=2))


@pytest.mark.slow
def test_a_mistake_that_torchruns_workers_find_is_the_same_sentence_here(make):
    job = make("job", launcher="torchrun", workers=2)
    wrong = job.model_copy(update={"space": job.space.model_copy(update={"frames": 5})})
    with pytest.raises(VidgenError, match="do not lie in the space"):
        fit_as_asked(wrong)


@pytest.mark.slow
def test_a_worker_of_torchrun_that_is_killed_costs_nothing_but_time(make):
    changes = {"steps": 400, "checkpoint_every": 10}
    expected = fit_as_asked(make("alone", launcher="process", accumulate=2, **changes))
    job, rows = make("together", launcher="torchrun", workers=2, **changes), Rows()

    def kill_once():
        while len(History.read(job.work_dir / "history.jsonl")) < 10:
            time.sleep(0.02)
        os.kill(workers_of(job)[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill_once, daemon=True)
    killer.start()
    fitted = fit_by_torchrun(job, rows)
    assert not killer.is_alive()
    assert 0 < fitted.resumed_from < 400
    assert fitted.weights == expected.weights
    assert rows.steps == [row["step"] for row in History.read(job.work_dir / "history.jsonl")]


@pytest.mark.slow
def test_workers_that_are_asked_to_stop_save_the_same_step_and_go_on_bit_for_bit(make):
    changes = {"steps": 400, "checkpoint_every": 1000}
    expected = fit_as_asked(make("alone", launcher="process", accumulate=2, **changes))
    job = make("together", launcher="torchrun", workers=2, **changes)

    def stop_once():
        while len(History.read(job.work_dir / "history.jsonl")) < 10:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_once, daemon=True).start()
    with pytest.raises(VidgenError, match="is saved") as raised:
        fit_as_asked(job)
    assert raised.value.exit_code == 128 + signal.SIGTERM
    fitted = fit_as_asked(job)
    assert f"step {fitted.resumed_from} is saved" in str(raised.value)
    assert fitted.weights == expected.weights


@pytest.mark.slow
def test_no_port_of_torchrun_takes_what_it_would_unpickle(make):
    job, held = make("together", launcher="torchrun", workers=2, steps=400, checkpoint_every=1000), {}

    def look():
        while len(History.read(job.work_dir / "history.jsonl")) < 5:
            time.sleep(0.02)
        # Ports of torchrun itself; its workers meet on loopback.
        for host, port in {door for pid in below(os.getpid()) - set(workers_of(job)) for door in listening(pid)}:
            store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=30))
            held.update({key: store.get(key) for key in store.list_keys()})

    looker = threading.Thread(target=look, daemon=True)
    looker.start()
    fit_as_asked(job)
    looker.join()
    assert held
    assert not [key for key in held if "rendezvous" in key]
