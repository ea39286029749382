"""What `vidgen status` tells is what the files of the home say, and it disturbs nobody."""

import json
import subprocess
import sys
import time

import pytest
from rich.console import Console

from flows.commands.status import page, statuses
from flows.failures import Mistake
from flows.home import Home
from flows.recipes.recipe import load
from flows.spec import Progress, Row, Spec, StageResult, last_spec
from flows.stage import write_value
from vidgen_core.errors import VidgenError


@pytest.fixture
def home(tmp_path):
    return Home.open(tmp_path / "home")


@pytest.fixture
def spec(home):
    return Spec(stage="prepare", recipe=load("shapes.tiny"), videos="v", home_dir=home.root)


def shown(home):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(page(statuses(home)))
    return console.export_text()


def test_an_empty_home_says_so(home):
    assert statuses(home) == []
    assert "Nothing was run" in shown(home)


def test_a_stage_that_was_asked_and_does_not_work_was_stopped(home, spec):
    write_value(spec.spec_file, spec)
    (only,) = statuses(home)
    assert (only.state, only.seconds) == ("stopped", None)


def test_it_runs_while_somebody_holds_the_lock_and_tells_how_far_it_is(home, spec):
    write_value(spec.spec_file, spec)
    write_value(spec.progress_file, Progress(stage="prepare", done=3, total=12, rate=1.5, remaining_s=6))
    with home.lock("stage"):
        (only,) = statuses(home, now=time.time() + 60)
        assert only.state == "running" and only.where and 59 < only.seconds < 70
        assert "3/12  1.5/s  6.0 s left" in shown(home)
        # Looking takes no lock that a stage would meet.
        with home.lock("stage"):
            pass
    assert statuses(home)[0].state == "stopped"


def test_answers_and_mistakes_are_told_and_the_latest_stands_first(home, spec):
    write_value(spec.spec_file, spec)
    write_value(
        spec.result_file("prepare"), StageResult(stage="prepare", seconds=7.5, rows=(Row(name="clips", count=9),))
    )
    later = spec.model_copy(update={"stage": "latents"})
    write_value(later.spec_file, later)
    write_value(later.mistake_file, Mistake.of(VidgenError("There is no clip", move="Run prepare")))
    with home.lock("stage"):
        failed, done = statuses(home)
    assert (failed.stage, failed.state, failed.said) == ("latents", "failed", "There is no clip. Run prepare.")
    assert (done.stage, done.state, done.seconds, done.said) == ("prepare", "done", 7.5, "9 clips")


def test_a_run_of_an_older_vidgen_does_not_hide_the_others(home, spec):
    write_value(spec.spec_file, spec)
    other = home.runs_dir / "old" / "prepare.spec.json"
    other.parent.mkdir()
    other.write_text('{"stage": "prepare"}')
    assert len(statuses(home)) == 1
    assert last_spec(home, "prepare") == spec
    spec.spec_file.unlink()
    with pytest.raises(VidgenError, match="written by another vidgen.*vidgen prepare again"):
        last_spec(home, "prepare")


def test_a_fact_that_an_older_vidgen_did_not_tell_is_asked_for_again():
    assert StageResult(stage="train", facts={"release": "r"}).fact("release") == "r"
    with pytest.raises(VidgenError, match="vidgen train again"):
        StageResult(stage="train").fact("release")


def test_the_command_prints_json(home, spec):
    write_value(spec.spec_file, spec)
    command = [sys.executable, "-m", "flows.cli", "status", "--home", str(home.root), "--json"]
    told = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)
    assert [one["stage"] for one in told] == ["prepare"]
