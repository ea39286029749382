from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.keeper import kept


def pytest_xdist_make_scheduler(config, log):
    """With -n: a file's tests run in one process, where they share what they made, and all files of Ray in one."""
    from xdist.scheduler import LoadFileScheduling

    class OneRay(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return "ray" if file in with_ray else file

    with_ray = {
        file.relative_to(config.rootpath).as_posix()
        for file in Path(__file__).parent.rglob("test_*.py")
        if "pytest.mark.ray" in file.read_text()
    }
    return OneRay(config, log)


@pytest.fixture(autouse=True, scope="session")
def _nothing_outlives_the_tests():
    with kept():
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


def _beside_the_checkout(name: str) -> Path:
    folder = Path(__file__).parents[2] / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"there is no folder shared/{name} beside the checkout")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The optional folder of real videos."""
    return _beside_the_checkout("data")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """The optional folder of small real weights."""
    return _beside_the_checkout("weights")


@pytest.fixture(scope="session")
def ray_session():
    """One local Ray for all tests that need it; with a token, and never somebody else's."""
    import os
    import secrets
    import shutil
    import tempfile

    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    import ray

    folder = tempfile.mkdtemp(prefix="vg", dir="/tmp")
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        logging_level="ERROR",
        log_to_driver=False,
        _temp_dir=folder,
    )
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A real S3 server on loopback."""
    from tests.stores import Server

    server = Server(tmp_path_factory.mktemp("s3") / "server.log")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def s3(s3_server, tmp_path_factory):
    """The S3 server, as the environment names it; its buckets are those of everybody."""
    with _named(s3_server.url, tmp_path_factory.mktemp("aws")):
        yield s3_server


@pytest.fixture(scope="module")
def s3_gate(s3_server, tmp_path_factory):
    """The same behind a gate, which can be shut."""
    from tests.stores import Gate

    gate = Gate(s3_server, tmp_path_factory.mktemp("gate"))
    with _named(gate.url, tmp_path_factory.mktemp("aws")):
        yield gate
    gate.shut()


@contextmanager
def _named(url, folder):
    from data_prep.storage import filesystem
    from tests.stores import CREDENTIALS

    with pytest.MonkeyPatch.context() as patch:
        for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": url}).items():
            patch.setenv(name, value)
        # The machine's own configuration must not matter.
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, str(folder / "none"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        filesystem.cache_clear()
        yield
    filesystem.cache_clear()
