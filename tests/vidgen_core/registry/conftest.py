import shutil
from types import SimpleNamespace

import pytest

from tests.vidgen_core.registry.small import generator_folder
from vidgen_core.registry.tracking import Tracker, client


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory):
    """A database as MLflow makes it, which takes seconds; tests work on copies."""
    folder = tmp_path_factory.mktemp("empty")
    client(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture(scope="module")
def registry(empty_registry, tmp_path_factory):
    """A registry of its own: its folder, address and a run to register by."""
    return new_registry(empty_registry, tmp_path_factory.mktemp("registry"))


@pytest.fixture
def other_registry(empty_registry, tmp_path):
    """Another one, as of production."""
    return new_registry(empty_registry, tmp_path)


def new_registry(empty, folder):
    shutil.copy(empty, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    run = Tracker.open(uri, experiment="tests", run_key="run", artifacts=folder / "mlartifacts")
    return SimpleNamespace(folder=folder, uri=uri, run=run)


@pytest.fixture(scope="session")
def generators(tmp_path_factory):
    """Folders and digests of tiny generators that differ by their weights, made when they are asked for."""
    root, made = tmp_path_factory.mktemp("generators"), {}

    def get(number):
        if number not in made:
            folder = root / str(number)
            made[number] = (folder, generator_folder(folder, seed=number))
        return made[number]

    return get
