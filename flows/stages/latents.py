"""Clips to latents: train the codec if it can learn, freeze it, encode; captions to token vectors."""

from pathlib import Path

from data_prep.conditions import write_conditions
from data_prep.latents import embed_captions, encode_latents
from data_prep.prepare import DATA_TABLES, data_release
from data_prep.rights import RIGHTS
from data_prep.tables import Tables
from flows.cluster import REPLACEMENT_S, fitting, ray_of
from flows.spec import Follow, Row, Spec, StageResult
from flows.stage import ProgressFile, write_value
from vidgen_core import digests, discovery, weights
from vidgen_core.encoders._open import open_encoder
from vidgen_core.training.job import Data, Job
from vidgen_core.training.launch import fit_as_asked

__all__ = ["run"]


def run(spec: Spec, progress: ProgressFile) -> StageResult:
    """Bring the tables of latents and embeddings up to date, and pin all tables in a release."""
    tables, recipe = spec.home.tables(), spec.recipe
    with ray_of(spec) as runner:
        codec_dir, history = _codec(spec, tables)
        latents = encode_latents(tables, codec_dir, runner, progress=progress)
    embeddings = embed_captions(tables, open_encoder(recipe.text.name, recipe.text.config()))
    conditions = write_conditions(tables, recipe.conditions, recipe.data) if recipe.conditions else ""
    made = [latents, embeddings, *([conditions] if conditions else [])]
    # A license that is corrected changes nothing that a model learns.
    release = tables.release([*DATA_TABLES, *made], beside=[RIGHTS])
    write_value(spec.home.releases_dir / f"{release.digest}.json", release)
    facts = {
        "release": release.digest,
        # What a schedule compares with, as `prepare` tells it.
        "data": data_release(tables).digest,
        "codec_dir": str(codec_dir),
        "codec_history": history,
        "latents": latents,
        "embeddings": embeddings,
        "conditions": conditions,
    }
    rows = (
        Row(name="latents", count=release.tables[latents].rows, note=latents),
        Row(name="embedded captions", count=release.tables[embeddings].rows),
    )
    return StageResult(stage="latents", rows=rows, facts=facts)


def _codec(spec: Spec, tables: Tables) -> tuple[Path, str]:
    """The frozen codec's folder, and the history of its training ("" when it cannot learn)."""
    recipe = spec.recipe
    config = recipe.codec.config()
    codec = discovery.load("vidgen_core.codecs", recipe.codec.name).Config.model_validate(config).build()
    for made in recipe.data.each_shape():
        codec.latent_shape(made.frames, made.height, made.width)
    identity = [recipe.codec.name, config]
    if not codec.trainable:
        # By its weights and not by where they were: what a path holds may change.
        own, state = codec.config.model_dump(mode="json"), codec.state_dict()
        folder = spec.home.codecs_dir / digests.of_value([recipe.codec.name, own, weights.digest_of(state)])
        if not folder.exists():
            weights.save(folder, state, {"name": recipe.codec.name, "config": own})
        return folder, ""
    key = digests.of_value([*identity, recipe.codec_training.identity(), tables.digest("clips")])
    job = Job(
        kind="codecs",
        name=recipe.codec.name,
        config=config,
        settings=fitting(recipe.codec_training, spec),
        data=Data(kind="clips", files=tuple(tables.files("clips"))),
        work_dir=spec.home.codecs_dir / key,
    )
    write_value(spec.follow_file, Follow(file=job.work_dir / "progress.json"))
    fit_as_asked(job, patience_s=REPLACEMENT_S if spec.ray else 0.0)
    spec.follow_file.unlink()
    return job.final_dir, str(job.work_dir / "history.jsonl")
