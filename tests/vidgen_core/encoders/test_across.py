"""What joins the samples of a step joins those of all workers: two of them equal one with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.vidgen_core.encoders.pair import learned

ROOT = Path(__file__).parents[3]
NAMES = ("i3d", "timesformer", "cvrl", "clipbert")


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.vidgen_core.encoders.pair", str(rank), folder / "meeting", folder / "told.pt",
             *NAMES], env=environment, cwd=ROOT, stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]  # fmt: skip
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors.decode()[-2000:]
    return torch.load(folder / "told.pt", weights_only=True)


@pytest.mark.parametrize("name", NAMES)
def test_two_workers_have_the_loss_gradient_and_statistics_of_one_with_both_their_samples(name, together):
    alone = learned(name, [0, 1, 2, 3, 4, 5], 1)
    both = together[name]
    assert both.keys() == alone.keys()
    assert both["loss"] == pytest.approx(alone["loss"].item(), rel=1e-4)
    # Many norms over few samples make much of the order of a sum; one that missed a worker would be half as long.
    for kind, error in ((False, 2e-2), (True, 1e-3)):
        names = [key for key in alone if ("running" in key) == kind]
        whole, parts = (torch.cat([told[key].flatten() for key in names]) for told in (alone, both))
        assert (parts - whole).norm() < error * whole.norm()
