"""What Prometheus is told is what `vidgen status` tells."""

import urllib.request

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from flows.exporter import HomeCollector, export
from flows.home import Home
from flows.recipes.recipe import load
from flows.spec import Progress, Row, Spec, StageResult
from flows.stage import write_value
from tests.stores import free_port
from vidgen_core.errors import VidgenError


@pytest.fixture
def home(tmp_path):
    home = Home.open(tmp_path / "home")
    spec = Spec(stage="prepare", recipe=load("shapes.tiny"), videos="v", home_dir=home.root)
    write_value(spec.spec_file, spec)
    rows = (Row(name="clips", count=9), Row(name="page", note="none"))
    write_value(spec.result_file("prepare"), StageResult(stage="prepare", seconds=7.5, rows=rows))
    later = spec.model_copy(update={"stage": "train"})
    write_value(later.spec_file, later)
    figures = {"tokens_per_s": 7000.0, "mfu": 0.11, "wait_share": 0.001}
    write_value(later.progress_file, Progress(stage="train", done=30, total=100, rate=2.0, figures=figures))
    return home


def parsed(text):
    return {
        (sample.name, sample.labels.pop("stage"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_work_backlog_figures_and_rows_are_told_while_a_stage_works(home):
    registry = CollectorRegistry()
    registry.register(HomeCollector(home))
    with home.lock("stage"):
        told = parsed(generate_latest(registry).decode())
    assert told["vidgen_stages", "train", "running"] == 1
    assert told["vidgen_stages", "prepare", "done"] == 1
    assert told["vidgen_stage_backlog", "train"] == 70
    assert told["vidgen_stage_rate", "train"] == 2
    assert told["vidgen_training_figure", "train", "mfu"] == 0.11
    assert told["vidgen_rows", "prepare", "clips"] == 9
    assert told["vidgen_stage_seconds", "prepare"] == 7.5
    after = parsed(generate_latest(registry).decode())
    assert after["vidgen_stages", "train", "running"] == 0
    assert not [name for name, *_ in after if name.startswith("vidgen_training")]


def test_it_is_served_on_this_machine_alone(home):
    port = free_port()
    export(home, port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert parsed(answer.read().decode())["vidgen_stages", "prepare", "done"] == 1
    with pytest.raises(VidgenError, match="Choose another --metrics"):
        export(home, port)
