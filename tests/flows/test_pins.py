"""The versions that work together are the versions that are pinned."""

import importlib.metadata
import re
from pathlib import Path

import sqlalchemy

ROOT = Path(__file__).parents[2]


def test_what_is_installed_is_what_was_tested_together():
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    for name in ("ray", "prefect", "mlflow", "torch", "torchvision", "SQLAlchemy", "fastapi", "deltalake", "av"):
        assert importlib.metadata.version(name) == pins[name]


def test_sqlalchemy_is_below_the_release_that_silences_prefects_scheduler():
    assert tuple(map(int, sqlalchemy.__version__.split(".")[:2])) < (2, 1)


def test_prefects_server_and_open_clip_import():
    import open_clip  # noqa: F401
    from prefect.server.api.server import create_app

    assert callable(create_app)
