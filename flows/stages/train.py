"""Latents to a trained generator, on Ray Train, with every row in MLflow."""

from functools import partial
from pathlib import Path
from typing import Any

from data_prep.tables import Tables
from flows.cluster import local_ray
from flows.spec import Follow, Row, Spec, StageResult
from flows.stage import ProgressFile, write_value
from vidgen_core import digests
from vidgen_core.applications import generator
from vidgen_core.codecs._open import open_codec
from vidgen_core.encoders._open import open_encoder
from vidgen_core.interfaces import Space
from vidgen_core.registry.tracking import Tracker
from vidgen_core.training.job import Data, Job

__all__ = ["open_tracker", "run"]


def run(spec: Spec, _progress: ProgressFile) -> StageResult:
    """Train the family and put the generator together."""
    recipe, facts = spec.recipe, spec.result("latents").facts
    codec_dir = Path(facts["codec_dir"])
    job = _job(spec, codec_dir, facts["latents"], facts["embeddings"])
    tracker = open_tracker(spec)
    tracker.params({"recipe": recipe.name, "recipe_json": recipe.model_dump_json(), "release": facts["release"]})
    tracker.dataset(recipe.name, facts["release"], spec.home.releases_dir / f"{facts['release']}.json")
    with local_ray(spec.home, recipe.cores):
        # Ray reads how to authenticate when it is first imported, so not before it was told.
        from vidgen_core.training.ray_train import fit_on_ray

        write_value(spec.follow_file, Follow(file=job.work_dir / "progress.json"))
        fitted = fit_on_ray(job, open_recorder=partial(Tracker, tracker.uri, tracker.run_id))
        spec.follow_file.unlink()
    assert job.space is not None
    card = generator.Card(
        family=job.name,
        config=job.config,
        space=job.space,
        text=recipe.text.name,
        text_config=recipe.text.config(),
        text_digest=open_encoder(recipe.text.name, recipe.text.config()).digest,
        frame_rate=recipe.data.frame_rate,
        sampling=recipe.sampling,
        facts={"release": facts["release"], "recipe": recipe.name, "job": fitted.job},
    )
    model_dir = spec.home.models_dir / job.work_dir.name
    model_dir.parent.mkdir(parents=True, exist_ok=True)
    model = generator.assemble(model_dir, card, family_dir=job.final_dir, codec_dir=codec_dir)
    rows = (Row(name="steps", count=fitted.steps), Row(name="clips learned from", count=fitted.samples))
    told: dict[str, Any] = {"model_dir": str(model_dir), "model": model, "history": str(job.work_dir / "history.jsonl")}
    told |= {"held_out": fitted.held_out, "mlflow_run": tracker.run_id, "notes": list(fitted.notes)}
    return StageResult(stage="train", rows=rows, facts=told)


def open_tracker(spec: Spec) -> Tracker:
    """The MLflow run of this run."""
    return Tracker.open(
        spec.home.mlflow_uri, experiment=spec.recipe.model, run_key=spec.run_key, artifacts=spec.home.artifacts_dir
    )


def _job(spec: Spec, codec_dir: Path, latents: str, embeddings: str) -> Job:
    recipe, tables = spec.recipe, Tables(spec.home.tables_dir)
    shape = open_codec(codec_dir).latent_shape(recipe.data.frames, recipe.data.height, recipe.data.width)
    channels, frames, height, width = shape
    text_dim = open_encoder(recipe.text.name, recipe.text.config()).dim
    config = recipe.family.config()
    release = spec.result("latents").facts["release"]
    key = digests.of_value([recipe.family.name, config, recipe.training.identity(), release])
    return Job(
        kind="families",
        name=recipe.family.name,
        config=config,
        space=Space(channels=channels, frames=frames, height=height, width=width, text_dim=text_dim),
        settings=recipe.training,
        data=Data(
            kind="latents",
            files=tuple(tables.files(latents)),
            captions=tuple(tables.files("captions")),
            embeddings=tuple(tables.files(embeddings)),
        ),
        work_dir=spec.home.training_dir / key,
    )
