"""Where a home keeps its models: with itself, or at a server that was chosen before anything was registered."""

import pytest

from flows.home import Home
from vidgen_core.errors import VidgenError


def test_a_home_remembers_the_server_of_its_models_and_no_secret(tmp_path):
    home = Home.open(tmp_path / "home")
    assert home.mlflow_uri.startswith("sqlite:///")
    assert home.artifacts_dir == home.root / "mlartifacts"
    assert not home.has_registry
    home.keep_registry_at("http://127.0.0.1:5000/")
    again = Home.open(tmp_path / "home")
    assert again.mlflow_uri == "http://127.0.0.1:5000"
    assert again.artifacts_dir is None
    assert again.has_registry
    again.keep_registry_at("https://models.example")
    assert Home.open(tmp_path / "home").mlflow_uri == "https://models.example"
    with pytest.raises(VidgenError, match="MLFLOW_TRACKING_USERNAME") as refused:
        home.keep_registry_at("http://me:hush@127.0.0.1:5000")
    assert "hush" not in str(refused.value)
    with pytest.raises(VidgenError, match="at an MLflow server"):
        home.keep_registry_at("sqlite:///elsewhere.db")


def test_models_that_are_in_the_home_are_not_left_behind(tmp_path):
    home = Home.open(tmp_path / "home")
    (home.root / "mlflow.db").touch()
    with pytest.raises(VidgenError, match="in the home already"):
        home.keep_registry_at("http://127.0.0.1:5000")
    assert home.mlflow_uri.startswith("sqlite:///")


def test_a_trial_leaves_nothing_behind_nor_what_a_killed_one_left(tmp_path):
    home = Home.open(tmp_path)
    left, kept = home.training_dir / ".pace-killed" / "deep", home.training_dir / "0123"
    left.mkdir(parents=True)
    kept.mkdir()
    with home.trial("pace") as folder:
        assert folder.is_dir()
        assert {one.name for one in home.training_dir.iterdir()} == {folder.name, "0123"}
    assert list(home.training_dir.iterdir()) == [kept]


def test_every_command_that_registers_asks_the_server_that_is_named(tmp_path, monkeypatch):
    home = Home.open(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home.keep_named_registry()
    assert not home.has_registry
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    home.keep_named_registry()
    assert home.mlflow_uri == "http://mlflow:5000"
