"""What is made of a job server's answers, with a client of our own in the place of Ray's."""

import sys
from enum import StrEnum
from types import ModuleType, SimpleNamespace

import pytest

from flows.failures import StageCrashedError
from flows.launch import ray_jobs
from flows.recipes.recipe import load
from flows.spec import Spec, StageResult
from flows.stage import write_value
from vidgen_core.errors import VidgenError


class Status(StrEnum):
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"

    def is_terminal(self):
        return self != "RUNNING"


class Client:
    """Answers with what is next in `statuses`, an exception where it is one; the last one stays."""

    def __init__(self, statuses, **ended):
        self.statuses, self.stopped = list(statuses), []
        self.ended = SimpleNamespace(driver_exit_code=None, message=None, **ended)

    def __call__(self, _address):
        return self

    def list_jobs(self):
        return []

    def submit_job(self, **_):
        """Taken."""

    def get_job_status(self, _name):
        told = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(told, Exception):
            raise told
        return told

    def get_job_info(self, name):
        self.ended.status = self.get_job_status(name)
        return self.ended

    def stop_job(self, name):
        self.stopped.append(name)
        self.statuses = [Status.STOPPED]


@pytest.fixture
def run(tmp_path, monkeypatch):
    spec = Spec(stage="prepare", recipe=load("shapes.tiny"), videos="/v", home_dir=tmp_path, jobs="http://head:8265")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setattr(ray_jobs, "POLL_S", 0.0)

    def act(client, progress=lambda _value: None):
        for name, has in (("job_submission", {"JobSubmissionClient": client}), ("exceptions", {"RayError": OSError})):
            module = ModuleType(f"ray.{name}")
            vars(module).update(has)
            monkeypatch.setitem(sys.modules, f"ray.{name}", module)
        monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
        return ray_jobs.run(spec, SimpleNamespace(progress=progress))

    act.spec = spec
    return act


def broken(code):
    return RuntimeError(f"Request failed with status code {code}: trouble.")


def test_a_server_in_trouble_stops_no_job_and_is_asked_again(run):
    client = Client([Status.RUNNING, broken(500), broken(504), Status.SUCCEEDED])
    done = StageResult(stage="prepare", facts={"a": 1})
    assert run(client, lambda _value: write_value(run.spec.result_file("prepare"), done)) == done
    assert not client.stopped


def test_a_job_that_cannot_be_watched_goes_on_and_one_that_is_interrupted_does_not(run):
    client = Client([Status.RUNNING, broken(403)])
    with pytest.raises(VidgenError, match="403"):
        run(client)
    assert not client.stopped

    def interrupted(_value):
        raise KeyboardInterrupt

    client = Client([Status.RUNNING])
    with pytest.raises(KeyboardInterrupt):
        run(client, interrupted)
    assert len(client.stopped) == 1


def test_how_a_job_ended_is_told_also_where_it_never_began(run):
    client = Client([Status.FAILED])
    client.ended.message = "No node has the resources\nlast lines of a log"
    with pytest.raises(StageCrashedError, match=r"No node has the resources Its log"):
        run(client)
    client.ended.driver_exit_code = 137
    with pytest.raises(StageCrashedError) as crashed:
        run(client)
    assert crashed.value.died
    with pytest.raises(VidgenError, match="was stopped on the cluster"):
        run(Client([Status.STOPPED]))
