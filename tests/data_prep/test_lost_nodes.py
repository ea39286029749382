"""Tasks on a Ray of several nodes: losing a node, a worker or memory loses no item, and no item goes round forever."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from tests.nodes import ROOT, Nodes

pytestmark = [pytest.mark.slow, pytest.mark.ray]

TASKS = """
import os, signal, sys, time
from collections import Counter
from pathlib import Path
import ray
from data_prep.needs import needs
from data_prep.run import Failure, RayRunner

def where(item):
    time.sleep(0.3)
    return ray.get_runtime_context().get_node_id()

def crash_on_seven(item):
    if item == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return item

def crash_once(mark):
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return mark.name

@needs(memory_gib=1.5)
def hungry(item):
    held = bytearray(64 * 2**20)
    time.sleep(20)
    return item

@needs(gpus=0.5)
def on_a_gpu(item):
    return item
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with Nodes(tmp_path_factory.mktemp("nodes")) as started:
        yield started


def tell(nodes, program, folder, **on_line):
    """Run a program that prints JSON lines; `on_line` says what to do when a line has this key."""
    (folder / "tasks.py").write_text(TASKS)
    (folder / "program.py").write_text(
        "from tasks import *\nimport json\nsay = lambda **what: print(json.dumps(what), flush=True)\n"
        f"ray.init({nodes.address!r}, log_to_driver=False, logging_level='ERROR')\n" + textwrap.dedent(program)
    )
    environment = {**nodes.environment, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    process = subprocess.Popen(
        [sys.executable, str(folder / "program.py")], env=environment, stdout=subprocess.PIPE, text=True, cwd=folder
    )
    told = {}
    for line in process.stdout:
        if line.startswith("{"):
            said = json.loads(line)
            for key in said.keys() & on_line.keys():
                on_line[key]()
            told |= said
    assert process.wait(60) == 0
    return told


def test_a_lost_node_costs_no_item_and_a_new_one_is_used(nodes, tmp_path):
    program = """
        known, seen = {node["NodeID"] for node in ray.nodes()}, []
        def items():
            # A busy machine takes its time to start a node.
            number = 0
            while number < 60 or (sum(node not in known for _, node in seen) < 10 and number < 2000):
                yield number
                number += 1
        for item, node in RayRunner().map(where, items()):
            seen.append((item, node))
            if len(seen) in (10, 20):
                say(**{f"after{len(seen)}": 1})
        say(items=[item for item, _ in seen], places=[node for _, node in seen])
    """
    joined = []
    lost = nodes.names.pop()
    told = tell(
        nodes, program, tmp_path, after10=lambda: nodes.remove(lost), after20=lambda: joined.append(nodes.add(2))
    )
    nodes.names += joined
    assert sorted(told["items"]) == list(range(len(told["items"])))
    assert lost in told["places"]
    assert lost not in told["places"][30:]
    assert told["places"].count(joined[0]) >= 10


def test_an_item_that_kills_its_worker_each_time_is_a_failure_and_one_that_did_once_is_none(nodes, tmp_path):
    program = """
        failed = [(item, result.reason, result.attempts) for item, result in RayRunner().map(crash_on_seven, range(20))
                  if isinstance(result, Failure)]
        done = [result for _, result in RayRunner().map(crash_once, [Path("a").resolve(), Path("b").resolve()])]
        say(failed=failed, done=sorted(done))
    """
    told = tell(nodes, program, tmp_path)
    assert told == {"failed": [[7, "crashed", 2]], "done": ["a", "b"]}


def test_only_a_few_items_are_taken_ahead_of_what_was_consumed(nodes, tmp_path):
    program = """
        taken = consumed = 0
        def items():
            global taken
            for item in range(40):
                taken += 1
                yield item
        ahead = []
        for _ in RayRunner().map(crash_once, (Path("mark").resolve() for _ in items())):
            consumed += 1
            ahead.append(taken - consumed)
        cpus = int(ray.cluster_resources()["CPU"])
        say(consumed=consumed, most=max(ahead), cpus=cpus)
    """
    told = tell(nodes, program, tmp_path)
    assert told["consumed"] == 40
    assert told["most"] <= 2 * told["cpus"]


def test_who_stops_listening_stops_the_tasks(nodes, tmp_path):
    program = """
        flight = RayRunner().map(where, range(50))
        next(flight)
        flight.close()
        deadline = time.monotonic() + 10
        while ray.available_resources().get("CPU", 0) < ray.cluster_resources()["CPU"] and time.monotonic() < deadline:
            time.sleep(0.1)
        say(free=ray.available_resources().get("CPU", 0), all=ray.cluster_resources()["CPU"])
    """
    told = tell(nodes, program, tmp_path)
    assert told["free"] == told["all"]


def test_what_no_node_can_take_and_a_node_without_the_folder_are_sentences(nodes, tmp_path):
    program = """
        from vidgen_core.errors import VidgenError
        told = []
        for runner, task in ((RayRunner(), on_a_gpu), (RayRunner(witness=Path("nowhere/witness")), where)):
            try:
                list(runner.map(task, range(3)))
            except VidgenError as error:
                told.append(str(error))
        say(told=told)
    """
    gpu, folder = tell(nodes, program, tmp_path)["told"]
    assert "No node can take a task" in gpu
    assert "0.5 GPUs" in gpu
    assert "does not see the folder" in folder


def test_a_task_that_the_memory_monitor_ends_each_time_is_a_failure(tmp_path):
    # To the monitor of these nodes the machine is always full.
    full = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
    program = """
        failed = [(item, result.reason, result.attempts) for item, result in RayRunner().map(hungry, [1])]
        say(failed=failed)
    """
    with Nodes(tmp_path, cpus=(1,), **full) as nodes:
        assert tell(nodes, program, tmp_path) == {"failed": [[1, "out_of_memory", 3]]}
