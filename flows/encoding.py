"""Training a video encoder on the clips of a home, measuring it on those held out, and registering it."""

import getpass
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from data_prep.latents import embed_captions
from data_prep.rights import RIGHTS
from data_prep.tables import Tables
from flows.home import Home
from flows.recipes.recipe import TextChoice, changed_values
from flows.stage import write_value
from vidgen_core import digests, discovery, scene, weights
from vidgen_core.choices import Choice, first_complaint
from vidgen_core.encoders._classifier import Classifier
from vidgen_core.encoders._open import open_encoder, open_encoder_folder
from vidgen_core.encoders.clipbert import ClipBERT
from vidgen_core.errors import VidgenError
from vidgen_core.evaluation.probes import changed_copies, linear_probe, recall_at_one, recall_at_precision
from vidgen_core.evaluation.text_match import check_width
from vidgen_core.frozen import Frozen
from vidgen_core.interfaces import Text, VideoEncoder, to_clips
from vidgen_core.registry.encoders import promote_if_better
from vidgen_core.registry.models import ENCODER, Version, register
from vidgen_core.registry.tracking import Tracker
from vidgen_core.training.columns import read_rows
from vidgen_core.training.job import Data, Job
from vidgen_core.training.launch import fit_as_asked
from vidgen_core.training.samples import Samples
from vidgen_core.training.settings import TrainSettings

__all__ = ["EncoderRecipe", "Trained", "encoder_recipe", "train_encoder"]

_LABEL = "label"
_GALLERY = 64
_MOST_CLIPS = 4096
_AT_ONCE = 64


class EncoderChoice(Choice):
    """A file of `vidgen_core/encoders` that encodes video."""

    package = "vidgen_core.encoders"


class EncoderRecipe(Frozen):
    """How an encoder is made.

    Args:
        encoder: What it is.
        training: How it learns.
        text: The text encoder of one that reads captions.
        labels: Parquet file with `clip_id` and `label`, a class's number or null; "" takes shape and direction from
            captions of the sample world.

    """

    encoder: EncoderChoice
    training: TrainSettings = TrainSettings(
        steps=3000, batch=16, learning_rate=2e-3, warmup_steps=50, weight_decay=0.05, ema_decay=0.99,
        held_out_samples=_MOST_CLIPS, launcher="process",
    )  # fmt: skip
    text: TextChoice = TextChoice(name="hashed_words", size="tiny")
    labels: str = ""


class Trained(NamedTuple):
    """What came of it: the version and its alias, its folder, figures on held-out clips, and what was not measured."""

    version: Version
    alias: str
    folder: Path
    figures: dict[str, float]
    not_run: dict[str, str]


def encoder_recipe(named: str, changes: Sequence[str]) -> EncoderRecipe:
    """The recipe of NAME or NAME:SIZE with changes such as "training.steps=400".

    Raises:
        VidgenError: There is no such encoder, size or key, or a value does not fit.

    """
    choice = EncoderChoice.model_validate(named)
    recipe, learns = EncoderRecipe(encoder=choice), _video_encoder(choice.name).learns
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update=dict(learns))})
    values = changed_values(recipe, changes)
    try:
        recipe = EncoderRecipe.model_validate(values)
    except ValidationError as error:
        raise VidgenError(f"The encoder's recipe does not allow that: {first_complaint(error)}") from error
    _video_encoder(recipe.encoder.name)
    recipe.encoder.config()
    return recipe


def train_encoder(home: Home, recipe: EncoderRecipe) -> Trained:
    """Train, measure and register.

    Raises:
        VidgenError: There are no clips, labels or captions to learn from, or training failed; the same command goes on.

    """
    tables = home.tables()
    if not tables.files("clips"):
        raise VidgenError("There is no clip to learn from", got=str(home.root), move="Run vidgen prepare first")
    job, labels = _job(home, tables, recipe)
    name = f"encoder-{job.name}"
    run_key = job.work_dir.name
    tracker = Tracker.open(home.mlflow_uri, experiment=name, run_key=run_key, artifacts=home.artifacts_dir)
    tracker.params({"encoder": job.name, "recipe_json": recipe.model_dump_json()})
    fitted = fit_as_asked(job, open_recorder=partial(Tracker, tracker.uri, tracker.run_id))
    encoder = open_encoder_folder(job.final_dir)
    figures, not_run = measured(encoder, job, labels)
    tracker.log(fitted.steps, {f"eval/{figure}": value for figure, value in figures.items()})
    clips = tables.digest("clips")
    release = tables.release(["clips", "captions"], beside=[RIGHTS])
    # By the release a takedown finds who learned from what.
    write_value(home.releases_dir / f"{release.digest}.json", release)
    tags = {
        "vidgen.release": release.digest, "vidgen.clips": clips, "vidgen.encoder": job.name, "vidgen.run_key": run_key,
    }  # fmt: skip
    version = register(tracker, name, job.final_dir, model=weights.digest(job.final_dir), tags=tags, kind=ENCODER)
    tracker.finish()
    first = next((one for one in ("accuracy", "retrieval", "probe", "copies") if one in figures), None)
    if first is None:
        raise VidgenError(
            "Nothing could be measured, so the encoder is registered without an alias",
            got="; ".join(not_run.values()),
            move="Prepare more clips, or name --set labels=FILE",
        )
    alias = promote_if_better(
        tracker.uri, version, first, figures[first], data=clips, who=getpass.getuser(), cache_dir=home.cache_dir,
        measure=lambda champion: measured(champion, job, labels)[0],
    )  # fmt: skip
    return Trained(version, alias, job.final_dir, figures, not_run)


def measured(encoder: VideoEncoder, job: Job, labels: Path) -> tuple[dict[str, float], dict[str, str]]:
    """Figures on held-out clips by name, and why others are missing.

    `accuracy`, of a classifier: share of clips whose class it names. `probe`: share of clips whose label a linear layer
    over frozen features names. `copies`: share of changed copies found at 95 % precision, one clip a source.
    `retrieval`, of an encoder that reads captions: share of captions whose own clip has the highest score among 64.

    """
    figures: dict[str, float] = {}
    not_run: dict[str, str] = {}
    data = job.data.model_copy(update={"scalars": (labels,)})
    seen, unseen = (Samples(data, split, text=False, labels=(_LABEL,)) for split in (data.train, data.held_out))
    if len(seen) >= 2 * len(set(_classes(seen).tolist())) and len(unseen):
        figures["probe"] = linear_probe(
            _features(encoder, seen), _classes(seen), _features(encoder, unseen), _classes(unseen)
        )
    else:
        not_run["probe"] = f"the linear probe needs labelled clips, there are {len(seen)} and {len(unseen)} held out"
    if isinstance(encoder, Classifier) and len(unseen):
        figures["accuracy"] = float((_named(encoder, unseen) == _classes(unseen)).mean())
    held = Samples(job.data, job.data.held_out, text=False)
    clips = to_clips(_video(held, _one_a_source(job, held))).numpy() if len(held) else np.empty(0, np.uint8)
    if len(clips) > 1:
        figures["copies"] = recall_at_precision(encoder.features(clips), encoder.features(changed_copies(clips)))
    else:
        not_run["copies"] = f"copies need clips of two held-out sources, there are {len(clips)}"
    if isinstance(encoder, ClipBERT):
        pairs = _gallery(job, held)
        if len(pairs) > 1:
            told = Samples(job.data, job.data.held_out, text=True).batch(pairs, pairs)
            check_width(job.name, encoder, cast(Text, told.text).tokens.shape[-1])
            with torch.inference_mode():
                figures["retrieval"] = recall_at_one(encoder.match_all(told.video, cast(Text, told.text)).numpy())
        if len(pairs) < _GALLERY:
            not_run["retrieval"] = f"retrieval is among {_GALLERY} captions, there were {len(pairs)} that differ"
    return figures, not_run


def _gallery(job: Job, samples: Samples) -> list[int]:
    """Up to 64 clips of one shape whose captions tell different things: none may be true of another's clip."""
    tables = (read_rows(file, ["clip_id", "caption"]).to_pylist() for file in job.data.captions)
    captions = {row["clip_id"]: row["caption"] for table in tables for row in table if row["caption"]}
    first: dict[object, int] = {}
    for number in sorted(max(samples.buckets.values(), key=len).tolist()):
        if caption := captions.get(samples.clip_ids[number]):
            said = scene.parse(caption)
            first.setdefault((said.color, said.shape, said.manner, said.direction) if said else caption, number)
    return list(first.values())[:_GALLERY]


def _job(home: Home, tables: Tables, recipe: EncoderRecipe) -> tuple[Job, Path]:
    """The training run, and the file of labels."""
    config = recipe.encoder.config()
    encoder = discovery.load("vidgen_core.encoders", recipe.encoder.name).Config.model_validate(config).build()
    labels = Path(recipe.labels) if recipe.labels else None
    told: list[object] = [recipe.model_dump(mode="json", exclude={"training"}), recipe.training.identity(), config]
    told += [tables.digest("clips"), tables.digest("captions"), digests.of_file(labels) if labels else ""]
    work_dir = home.encoders_dir / digests.of_value(told)
    work_dir.mkdir(parents=True, exist_ok=True)
    if labels is None:
        labels = work_dir / "labels.parquet"
        _write_labels(tables, labels)
    data: dict[str, Any] = {"kind": "clips", "files": tuple(tables.files("clips")), "scalars": (labels,)}
    if encoder.reads_text:
        table = embed_captions(tables, open_encoder(recipe.text.name, recipe.text.config()))
        data |= {"captions": tuple(tables.files("captions")), "embeddings": tuple(tables.files(table))}
    job = Job(
        kind="encoders", name=recipe.encoder.name, config=config, settings=recipe.training, data=Data(**data),
        work_dir=work_dir,
    )  # fmt: skip
    if encoder.labels and not len(Samples(job.data, job.data.train, text=False, labels=encoder.labels)):
        raise VidgenError(
            f"{job.name} learns from labels, and no clip has one", got=str(recipe.labels or "captions"),
            allowed="captions of the sample world, or a Parquet file of clip_id and label",
            move="Give --set labels=FILE, or train cvrl, which needs none",
        )  # fmt: skip
    return job, labels


def _write_labels(tables: Tables, file: Path) -> None:
    """The classes of the sample world that captions tell, null where they tell none."""
    told: dict[str, float | None] = dict.fromkeys(tables.read("clips", ["clip_id"])["clip_id"].to_pylist())
    for row in tables.read("captions", ["clip_id", "caption", "rank"]).to_pylist():
        number = scene.class_of(row["caption"] or "") if row["rank"] == 0 else None
        if number is not None:
            told[row["clip_id"]] = float(number)
    columns = {"clip_id": list(told), "label": pa.array(list(told.values()), pa.float32())}
    pq.write_table(pa.table(columns), file)


def _one_a_source(job: Job, samples: Samples) -> list[int]:
    """The first clip of each source: clips of one source may be of one shot."""
    tables = (read_rows(file, ["clip_id", "source_id"]) for file in job.data.files)
    sources = {clip: source for table in tables for clip, source in zip(*table.to_pydict().values(), strict=True)}
    first: dict[str, int] = {}
    for number, clip_id in enumerate(samples.clip_ids[:_MOST_CLIPS]):
        first.setdefault(sources[clip_id], number)
    return list(first.values())


def _classes(samples: Samples) -> NDArray[np.int64]:
    return samples.scalar(_LABEL).astype(np.int64)


def _video(samples: Samples, numbers: Sequence[int]) -> Tensor:
    """Video [N, 3, T, H, W] in [-1, 1] of those that are of the commonest shape."""
    bucket = set(max(samples.buckets.values(), key=len).tolist())
    chosen = [number for number in numbers if number in bucket]
    return samples.batch(chosen, chosen).video


@torch.inference_mode()
def _features(encoder: VideoEncoder, samples: Samples) -> NDArray[np.float32]:
    """Features [N, dim] of all samples, in their order, some at a time."""
    rows = np.empty((len(samples), encoder.dim), np.float32)
    for some in _pieces(samples):
        rows[some] = encoder.embed(samples.batch(some, some).video).numpy()
    return rows


@torch.inference_mode()
def _named(encoder: Classifier, samples: Samples) -> NDArray[np.int64]:
    """The likeliest class [N] of each sample, in their order."""
    named = np.empty(len(samples), np.int64)
    for some in _pieces(samples):
        named[some] = encoder.logits(samples.batch(some, some).video).argmax(1).numpy()
    return named


def _pieces(samples: Samples) -> Iterator[list[int]]:
    """Samples of one shape, some at a time."""
    for bucket in samples.buckets.values():
        for some in np.array_split(bucket, -(-len(bucket) // _AT_ONCE)):
            yield some.tolist()


def _video_encoder(name: str) -> type[VideoEncoder]:
    """The class that a file of encoders makes of its configuration; refuses one that encodes no video."""
    found = _made_in(name)
    if found is None:
        raise VidgenError(
            f"{name} encodes no video",
            allowed=", ".join(other for other in discovery.names("vidgen_core.encoders") if _made_in(other)),
            move="Name one of these, as i3d:tiny",
        )
    return found


def _made_in(name: str) -> type[VideoEncoder] | None:
    module = discovery.load("vidgen_core.encoders", name)
    made = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, VideoEncoder)]
    return next((one for one in made if one.__module__ == module.__name__), None)
