"""What tests start dies with them, however they die."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.keeper import NAME
from tests.processes import below, marked, since
from tests.services import NO_POSTGRES, postgres_folder, wait

ROOT = Path(__file__).parents[1]
# A child, and a grandchild that left its parent, its group and its session.
PLAIN = """
import subprocess, sys
from tests.keeper import kept
with kept() as mark:
    subprocess.Popen(["sleep", "300"])
    subprocess.run(["sh", "-c", "setsid sleep 300 & setsid sleep 300 &"])
    print(mark, flush=True)
    sys.stdin.read()
"""
SERVICES = """
import sys
from pathlib import Path
from tests.keeper import kept
from tests.nodes import Nodes
from tests.services import Services
folder = Path(sys.argv[1])
with kept() as mark:
    services, nodes = Services(folder), Nodes(folder)
    services.work()
    nodes.__enter__()
    print(mark, flush=True)
    sys.stdin.read()
"""


def begun(script, *arguments):
    """A process like one of tests, and the mark of what it has started."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("how", ["kill -9", "SIGTERM", "its own end"])
def test_nothing_is_left_of_what_tests_started_whatever_ended_them(how):
    tests, mark = begun(PLAIN)
    assert wait(lambda: len(marked(NAME, mark)) == 3, limit_s=60), "they are there before the tests end"
    if how == "its own end":
        tests.stdin.close()
    else:
        os.kill(tests.pid, signal.SIGKILL if how == "kill -9" else signal.SIGTERM)
    tests.wait()
    assert wait(lambda: not marked(NAME, mark), limit_s=60), "something outlived the tests"


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.skipif(postgres_folder() is None, reason=NO_POSTGRES)
def test_nothing_is_left_of_services_and_nodes_when_tests_are_killed(tmp_path):
    tests, mark = begun(SERVICES, tmp_path)
    # Some write their titles over their environment.
    there = {pid: since(pid) for pid in below(tests.pid, *marked(NAME, mark))}
    assert len(there) > len(marked(NAME, mark)) > 10
    tests.kill()
    tests.wait()
    assert wait(
        lambda: not any(began and since(pid) == began for pid, began in there.items()) and not marked(NAME, mark),
        limit_s=60,
    ), "a service or a node outlived the tests"
