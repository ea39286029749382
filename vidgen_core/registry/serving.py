"""A version as MLflow's own server answers for it: `mlflow models serve -m models:/NAME@champion --env-manager local`.

A version's files are data alone, no pickle and no program: `MLmodel` names this module, which opens the generator's
folder beside it. A request has one row a video, and the answer to each is an mp4 in base64:

    {"dataframe_records": [{"prompt": "a red square moves left", "seed": 3}]}
    {"predictions": [{"mp4": "AAAAIGZ0eXBpc29t...", "prompt": "a red square moves left", "seed": 3}]}

Besides `prompt` a row may have `seed`, `steps`, `guidance` and `negative`. The bytes are those of `vidgen sample`.

MLflow's server calls a model from as many threads as there are cores, and four, at most 32. What comes beyond that
waits in a queue of its own, which no model can see, until its option --timeout ends it with status 504. So a bound on
those who wait, with a refusal at once, has an effect only below that number. UVICORN_LIMIT_CONCURRENCY bounds
connections, with a bare 503.
"""

import base64
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vidgen_core.applications.generator import Generator
from vidgen_core.applications.movie import asked_for, movie
from vidgen_core.errors import VidgenError

__all__ = ["GENERATOR", "Served", "write_description"]

GENERATOR = "generator"
# Of a server: how many requests draw at once, how many may wait for them, how many videos one may ask for. MLflow
# takes changes from its variable SERVING_MODEL_CONFIG, as '{"waiting": 8}'.
_CONFIG = {"at_once": 1, "waiting": 128, "rows": 16}
_COLUMNS = {"seed": "long", "steps": "long", "guidance": "double", "negative": "string"}
# Share of the time that MLflow gives a request (its option --timeout) in which its turn has to come.
_PATIENCE = 0.8


class Served:
    """What answers requests; as many threads as like may call `predict`.

    Args:
        generator: What draws.
        at_once: Requests that draw at the same time.
        waiting: Requests that may wait for their turn; one more is refused with status 429 and a sentence.
        rows: Videos that one request may ask for.
        patience_s: How long one may wait before it is refused with status 503 and a sentence.

    """

    def __init__(
        self, generator: Generator, *, at_once: int, waiting: int, rows: int, patience_s: float = 3600.0
    ) -> None:
        self._generator, self._waiting, self._rows, self._patience_s = generator, waiting, rows, patience_s
        self._drawing = threading.Semaphore(at_once)
        self._places = threading.Semaphore(at_once + waiting)

    def predict(self, rows: Any, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """One answer a row of a data frame with the column `prompt`; `params` are for all rows that do not say.

        Raises:
            MlflowException: A sentence for the sender, with the status that says whose fault it is.

        """
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

        try:
            if len(rows) > self._rows:
                raise VidgenError("That is too much for one request", got=f"{len(rows)} rows", allowed=f"{self._rows}")
            with self._place():
                return [self._answer({**(params or {}), **row}) for row in rows.to_dict("records")]
        except VidgenError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error

    @contextmanager
    def _place(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import REQUEST_LIMIT_EXCEEDED, TEMPORARILY_UNAVAILABLE

        if not self._places.acquire(blocking=False):
            raise MlflowException(
                f"All places are taken: {self._waiting} requests wait already. Ask again later.",
                error_code=REQUEST_LIMIT_EXCEEDED,
            )
        try:
            if not self._drawing.acquire(timeout=self._patience_s):
                raise MlflowException(
                    f"Its turn did not come within {self._patience_s:.0f} seconds. Ask again later.",
                    error_code=TEMPORARILY_UNAVAILABLE,
                )
            try:
                yield
            finally:
                self._drawing.release()
        finally:
            self._places.release()

    def _answer(self, row: Mapping[str, Any]) -> dict[str, Any]:
        # A column that other rows have is not a number here.
        told = {name: value for name, value in row.items() if value is not None and value == value}
        seed = int(told.get("seed", 0))
        changes = {name: told.get(name) for name in ("steps", "guidance", "negative")}
        videos = self._generator.videos([told["prompt"]], seed=seed, sampling=asked_for(self._generator, changes))
        media = movie(videos, self._generator.card.frame_rate)
        return {"mp4": base64.b64encode(media).decode(), "prompt": told["prompt"], "seed": seed}


def write_description(folder: Path, *, model_id: str, run_id: str) -> Path:
    """Write MLflow's description of a version, the file `MLmodel`."""
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    columns = [ColSpec("string", "prompt"), *(ColSpec(kind, name, required=False) for name, kind in _COLUMNS.items())]
    answer = [ColSpec("string", "mp4"), ColSpec("string", "prompt"), ColSpec("long", "seed")]
    described = Model(
        run_id=run_id, model_id=model_id, signature=ModelSignature(inputs=Schema(columns), outputs=Schema(answer))
    )
    pyfunc.add_to_model(described, loader_module=__name__, data=GENERATOR, model_config=_CONFIG)
    file = folder / "MLmodel"
    described.save(str(file))
    return file


def _load_pyfunc(folder: str, model_config: Mapping[str, int]) -> Served:
    """MLflow calls this, in the server once before it takes requests."""
    from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT

    # A server answers 504 by then, without a sentence, and what was waiting would still be drawn, for nobody.
    patience_s = _PATIENCE * MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get()
    return Served(Generator.load(Path(folder)), **model_config, patience_s=patience_s)
