"""Latents to a trained generator, on Ray Train, with every row in MLflow."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.conditions import spread
from flows.cluster import REPLACEMENT_S, fitting, ray_of
from flows.spec import Follow, Row, Spec, StageResult
from flows.stage import ProgressFile, write_value
from flows.strip import Strip, draw_strip, prompts_of
from vidgen_core import digests
from vidgen_core.applications import generator
from vidgen_core.codecs._open import open_codec
from vidgen_core.encoders._open import open_encoder
from vidgen_core.interfaces import Space
from vidgen_core.registry.tracking import Tracker
from vidgen_core.training.job import Data, Job
from vidgen_core.training.launch import fit_as_asked

__all__ = ["job_of", "open_tracker", "run"]

_LAST_DRAWING_S = 120.0


def run(spec: Spec, _progress: ProgressFile) -> StageResult:
    """Train the family and put the generator together."""
    recipe, latents = spec.recipe, spec.result("latents")
    facts, data = latents.facts, latents.fact("data")
    codec_dir = Path(facts["codec_dir"])
    job = job_of(spec)
    tracker = open_tracker(spec)
    tracker.params({"recipe": recipe.name, "recipe_json": recipe.model_dump_json(), "release": facts["release"]})
    tracker.dataset(recipe.name, facts["release"], spec.home.releases_dir / f"{facts['release']}.json")
    card, strip_dir = _card(spec, job), job.work_dir / "strip"
    strip = Strip(
        card=card, codec_dir=codec_dir, prompts=prompts_of(spec.home.tables()), seed=recipe.evaluation.seed,
        folder=strip_dir, uri=tracker.uri, run_id=tracker.run_id,
    )  # fmt: skip
    with _beside(spec, partial(draw_strip, strip, job)) as undrawn:
        write_value(spec.follow_file, Follow(file=job.work_dir / "progress.json"))
        recorder = partial(Tracker, tracker.uri, tracker.run_id)
        fitted = fit_as_asked(job, open_recorder=recorder, patience_s=REPLACEMENT_S if spec.ray else 0.0)
        spec.follow_file.unlink()
    notes = [*fitted.notes, *(f"Samples through training are missing: {why}" for why in undrawn)]
    card = card.model_copy(update={"facts": {**card.facts, "job": fitted.job}})
    model_dir = spec.home.models_dir / job.work_dir.name
    model_dir.parent.mkdir(parents=True, exist_ok=True)
    model = generator.assemble(model_dir, card, family_dir=job.final_dir, codec_dir=codec_dir)
    rows = (Row(name="steps", count=fitted.steps), Row(name="clips learned from", count=fitted.samples))
    told: dict[str, Any] = {"model_dir": str(model_dir), "model": model, "history": str(job.work_dir / "history.jsonl")}
    told |= {"held_out": fitted.held_out, "mlflow_run": tracker.run_id, "notes": notes}
    # What comes later is of what was learned from, whatever the latents are by then.
    told |= {"release": facts["release"], "data": data, "config": digests.of_value(job.config)}
    told |= {"strip_dir": str(strip_dir), "strip_prompts": list(strip.prompts)}
    return StageResult(stage="train", rows=rows, facts=told)


def open_tracker(spec: Spec) -> Tracker:
    """The MLflow run of this run."""
    return Tracker.open(
        spec.home.mlflow_uri, experiment=spec.recipe.model, run_key=spec.run_key, artifacts=spec.home.artifacts_dir
    )


def _card(spec: Spec, job: Job) -> generator.Card:
    """What the generator is made of, but for the weights."""
    recipe = spec.recipe
    assert job.space is not None
    return generator.Card(
        family=job.name,
        config=job.config,
        space=job.space,
        text=recipe.text.name,
        text_config=recipe.text.config(),
        text_digest=open_encoder(recipe.text.name, recipe.text.config()).digest,
        frame_rate=recipe.data.frame_rate,
        sampling=recipe.sampling,
        facts={"release": spec.result("latents").facts["release"], "recipe": recipe.name},
    )


@contextmanager
def _beside(spec: Spec, draw: Callable[[], None]) -> Iterator[list[str]]:
    """Draw beside the training that the block does, on the Ray that it has; without Ray, once it is done."""
    if spec.recipe.training.launcher != "ray":
        why: list[str] = []
        yield why
        draw()
        return
    with ray_of(spec):
        # Ray reads how to authenticate when it is first imported, so not before it was told.
        from vidgen_core.training.ray_beside import beside

        with beside(draw, end_s=_LAST_DRAWING_S) as why:
            yield why


def job_of(spec: Spec) -> Job:
    """The training run of a spec, from what its latents stage has made."""
    recipe, tables, facts = spec.recipe, spec.home.tables(), spec.result("latents").facts
    shape = open_codec(Path(facts["codec_dir"])).latent_shape(recipe.data.frames, recipe.data.height, recipe.data.width)
    channels, frames, height, width = shape
    text_dim = open_encoder(recipe.text.name, recipe.text.config()).dim
    config = recipe.family.config()
    key = digests.of_value([recipe.family.name, config, recipe.training.identity(), facts["release"]])
    scalars = spread(tables, facts["conditions"], recipe.conditions) if recipe.conditions else ()
    space = Space(channels=channels, frames=frames, height=height, width=width, text_dim=text_dim, scalars=scalars)
    return Job(
        kind="families",
        name=recipe.family.name,
        config=config,
        space=space,
        settings=fitting(recipe.training, spec),
        data=Data(
            kind="latents",
            files=tuple(tables.files(facts["latents"])),
            captions=tuple(tables.files("captions")),
            embeddings=tuple(tables.files(facts["embeddings"])),
            scalars=tuple(tables.files(facts["conditions"])) if recipe.conditions else (),
        ),
        work_dir=spec.home.training_dir / key,
    )
