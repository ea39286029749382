"""MLflow runs: one a run key, resumed when it is there; metrics go in batches from a buffer."""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vidgen_core.errors import VidgenError

__all__ = ["Tracker", "client"]

_MOST_HELD = 500
_LONGEST_HELD_S = 5.0


def client(uri: str) -> Any:
    """An MLflow client of a store, telemetry off."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


class Tracker:
    """One MLflow run.

    Args:
        uri: The store.
        run_id: The run.

    """

    def __init__(self, uri: str, run_id: str) -> None:
        self.uri, self.run_id = uri, run_id
        self._client = client(uri)
        self._held: list[Any] = []
        self._flushed = time.monotonic()

    @classmethod
    def open(
        cls, uri: str, *, experiment: str, run_key: str, artifacts: Path | None = None, tags: Mapping[str, str] = {}
    ) -> "Tracker":
        """Resume the run with this key, or begin one."""
        store = client(uri)
        found = store.get_experiment_by_name(experiment)
        location = None if artifacts is None else artifacts.absolute().as_uri()
        experiment_id = found.experiment_id if found else store.create_experiment(experiment, location)
        runs = store.search_runs([experiment_id], f"tags.`vidgen.run_key` = '{run_key}'", max_results=1)
        if runs:
            store.update_run(runs[0].info.run_id, status="RUNNING")
            return cls(uri, runs[0].info.run_id)
        run = store.create_run(experiment_id, tags={**tags, "vidgen.run_key": run_key}, run_name=run_key)
        return cls(uri, run.info.run_id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take one row; it reaches the store within some seconds, or at `close`."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        self._held += [Metric(_name(name), float(value), now_ms, step) for name, value in values.items()]
        if len(self._held) >= _MOST_HELD or time.monotonic() - self._flushed > _LONGEST_HELD_S:
            self.flush()

    def flush(self) -> None:
        """Write what is held back, in one batch."""
        if self._held:
            self._client.log_batch(self.run_id, metrics=self._held)
        self._held, self._flushed = [], time.monotonic()

    def close(self) -> None:
        """Write what is held back."""
        self.flush()

    def params(self, values: Mapping[str, str]) -> None:
        """Log parameters; those there already stay, which is right since a run's key covers them."""
        from mlflow.entities import Param

        have = self._client.get_run(self.run_id).data.params
        fresh = [Param(name, value[:6000]) for name, value in values.items() if name not in have]
        self._client.log_batch(self.run_id, params=fresh)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        for name, value in values.items():
            self._client.set_tag(self.run_id, name, value)

    def artifact(self, file: Path, folder: str | None = None) -> None:
        """Log a file, or a folder with all that is in it."""
        if not file.exists():
            raise VidgenError("There is no such file to log", got=str(file))
        log = self._client.log_artifacts if file.is_dir() else self._client.log_artifact
        log(self.run_id, str(file), folder)

    def pages(self, model: str, version: int, report: str) -> dict[str, str]:
        """Where MLflow shows this run, a version of a model, and a file of the run; nowhere without a server."""
        if not self.uri.startswith(("http://", "https://")):
            return {}
        experiment = self._client.get_run(self.run_id).info.experiment_id
        run = f"{self.uri}/#/experiments/{experiment}/runs/{self.run_id}"
        of_version = f"{self.uri}/#/models/{quote(model)}/versions/{version}"
        return {"run": run, "version": of_version, "page": f"{run}/artifactPath/{quote(report)}"}

    def checkpoints(self, model_id: str, rows: Iterable[Mapping[str, float]], data: tuple[str, str]) -> None:
        """Give a LoggedModel the figures of its checkpoints, once.

        Args:
            model_id: The LoggedModel.
            rows: {"step": ..., name: value} a checkpoint.
            data: Name and digest of the data release behind them, as `dataset` logged it.

        """
        from mlflow.entities import Metric

        if self._client.get_logged_model(model_id).metrics:
            return
        now_ms, (name, digest) = int(time.time() * 1000), data
        metrics = [
            Metric(_name(key), float(value), now_ms, int(row["step"]), model_id, name, digest, self.run_id)
            for row in rows
            for key, value in row.items()
            if key != "step"
        ]
        for start in range(0, len(metrics), _MOST_HELD):
            self._client.log_batch(self.run_id, metrics=metrics[start : start + _MOST_HELD])

    def dataset(self, name: str, digest: str, source: Path) -> None:
        """Record the data release that the run learned from; the data itself is not read."""
        from mlflow.data.dataset_source_registry import resolve_dataset_source
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        dataset = MetaDataset(resolve_dataset_source(str(source)), name=name, digest=digest)
        entry = DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", "training")])
        self._client.log_inputs(self.run_id, [entry])

    def finish(self) -> None:
        """Mark the run as finished."""
        self.flush()
        self._client.set_terminated(self.run_id)


def _name(name: str) -> str:
    """MLflow allows letters, digits and a few signs in names."""
    return "".join(sign if sign.isalnum() or sign in "_-./ :" else "-" for sign in name)
