"""A one-minute cron really fires: with a newer sqlalchemy nothing is scheduled, and nothing says so."""

import os
import subprocess
import sys
import time

import pytest

from flows.embedded import quiet_environment
from flows.home import Home

SERVED = """
from pathlib import Path
import sys
from prefect import flow
from prefect.schedules import Cron

@flow
def tick():
    with Path(sys.argv[1]).open("a") as file:
        file.write("tick\\n")

if __name__ == "__main__":
    tick.serve(name="tick", schedule=Cron("* * * * *"), pause_on_shutdown=False)
"""


@pytest.mark.slow
@pytest.mark.services
def test_a_one_minute_cron_really_fires(tmp_path):
    script, ticks = tmp_path / "served.py", tmp_path / "ticks"
    script.write_text(SERVED)
    home = Home.open(tmp_path / "home")
    environment = {**os.environ, **quiet_environment(home)}
    environment["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"
    served = subprocess.Popen([sys.executable, str(script), str(ticks)], env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 200
        while not ticks.exists() and time.monotonic() < deadline:
            time.sleep(1)
        assert ticks.exists()
    finally:
        os.killpg(served.pid, 15)
        served.wait(30)
