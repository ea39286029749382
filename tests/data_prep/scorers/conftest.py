import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def onnx_files():
    """The module beside this file that writes tiny models."""
    spec = importlib.util.spec_from_file_location("onnx_files", Path(__file__).with_name("onnx_files.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
